from lightning_fastdata.machine.cgroup import cgroup_directories

V2_MOUNT = "33 24 0:27 {root} /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"


def test_every_ancestor_is_listed_from_the_process_up():
    found = cgroup_directories("0::/a.slice/b.service\n", V2_MOUNT.format(root="/"), "cpu")

    assert found.paths == (
        "/sys/fs/cgroup/a.slice/b.service",
        "/sys/fs/cgroup/a.slice",
        "/sys/fs/cgroup",
    )
    assert found.notes == ()


def test_a_mount_of_one_cgroup_shows_only_what_is_below_it():
    found = cgroup_directories("0::/a/b/c\n", V2_MOUNT.format(root="/a/b"), "cpu")

    assert found.paths == ("/sys/fs/cgroup/c", "/sys/fs/cgroup")


def test_a_mount_of_a_cgroup_whose_name_only_begins_alike_is_not_ours():
    found = cgroup_directories("0::/a/bc\n", V2_MOUNT.format(root="/a/b"), "cpu")

    assert found.paths == ("/sys/fs/cgroup",)
    assert found.notes[0].startswith("the cgroup /a/bc of this process is not below")


def test_a_hosts_tree_mounted_into_a_private_namespace_is_an_ancestor():
    found = cgroup_directories("0::/\n", V2_MOUNT.format(root="/../.."), "cpu")

    assert found.paths == ("/sys/fs/cgroup",)


def test_a_process_outside_its_namespace_is_not_given_the_limits_of_others():
    found = cgroup_directories("0::/../other.scope\n", V2_MOUNT.format(root="/"), "cpu")

    assert found.paths == ()
    assert found.notes[0].startswith("the cgroup /../other.scope of this process cannot be seen")


def test_escapes_in_a_mount_point_and_colons_in_a_path_are_understood():
    mounts = r"33 24 0:27 / /mnt/my\040cgroups rw - cgroup2 none rw" + "\n"

    found = cgroup_directories("0::/task:7\n", mounts, "memory")

    assert found.paths == ("/mnt/my cgroups/task:7", "/mnt/my cgroups")


def test_a_later_mount_on_the_same_point_hides_the_earlier():
    mounts = V2_MOUNT.format(root="/") + "34 24 0:5 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n"

    assert cgroup_directories("0::/a\n", mounts, "cpu").paths == ()


def test_version_1_takes_the_mount_of_its_controller_only():
    cgroups = "4:cpu,cpuacct:/a\n3:memory:/b\n1:name=systemd:/c\n"
    mounts = (
        "35 34 0:30 / /cg/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
        "36 34 0:31 / /cg/memory rw - cgroup cgroup rw,memory\n"
        "37 34 0:32 / /cg/systemd rw - cgroup cgroup rw,name=systemd\n"
    )

    assert cgroup_directories(cgroups, mounts, "cpu").paths == (
        "/cg/cpu,cpuacct/a",
        "/cg/cpu,cpuacct",
    )
    assert cgroup_directories(cgroups, mounts, "memory").paths == ("/cg/memory/b", "/cg/memory")


def test_a_line_that_makes_no_sense_is_a_note_and_the_others_count():
    found = cgroup_directories("nonsense\n0::/a\n", V2_MOUNT.format(root="/"), "cpu")

    assert found.paths == ("/sys/fs/cgroup/a", "/sys/fs/cgroup")
    assert found.notes[0].startswith("/proc/self/cgroup has the line 'nonsense'")
