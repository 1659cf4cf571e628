"""What is read: folders of pictures, views of other datasets, and gathers of whole batches."""
