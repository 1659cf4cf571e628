"""What a user's dataset may hold that worker processes cannot take over."""
