"""Whether a socket that was mounted as a file is left behind, by what the kernel says of mounts.

The lines are as Linux 6.18 wrote them; tests/test_faults.py has the real thing.
"""

from pathlib import Path

import pytest

from app.engine.mounts import is_left_behind

ROOT = "36 29 8:1 / / rw,relatime - ext4 /dev/vda rw\n"
MOUNT = "300 36 0:25 /docker.sock{} {} rw,nosuid - tmpfs tmpfs rw,size=3276800k\n"


@pytest.mark.parametrize(
    ("mounts", "is_so"),
    [
        (ROOT, False),
        (ROOT + MOUNT.format("", "/engine/docker.sock"), False),
        (ROOT + MOUNT.format("//deleted", "/engine/docker.sock"), True),
        (ROOT + MOUNT.format("//deleted", "/engine/other.sock"), False),
        (ROOT + MOUNT.format("//deleted", "/engine"), False),
    ],
)
def test_a_socket_is_left_behind_where_it_was_mounted_and_is_gone(
    mounts: str, is_so: bool, tmp_path: Path
) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(mounts)
    assert is_left_behind("/engine/docker.sock", table) is is_so


def test_a_place_is_the_same_by_another_name(tmp_path: Path) -> None:
    (tmp_path / "var").symlink_to(tmp_path / "a folder")
    table = tmp_path / "mountinfo"
    place = str(tmp_path / "a folder" / "docker.sock").replace(" ", r"\040")
    table.write_text(ROOT + MOUNT.format("//deleted", place))
    assert is_left_behind(f"{tmp_path}/var/docker.sock", table)


def test_where_the_kernel_says_nothing_nothing_is_said(tmp_path: Path) -> None:
    assert not is_left_behind("/engine/docker.sock", tmp_path / "absent")
