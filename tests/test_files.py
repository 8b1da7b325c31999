"""Files are whole or absent."""

import errno
import hashlib
import os
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medseg.errors import ConfigError, ResourceError
from medseg.files import (
    atomic_path,
    replacing,
    require_writable,
    sha256,
    sweep_parts,
    write_bytes,
    write_text,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write_half(target: Path, error: BaseException) -> None:
    with atomic_path(target) as part:
        part.write_text("half")
        raise error


class TestAtomicPath:
    def test_the_file_appears_when_the_block_ends(self, tmp_path) -> None:
        target = tmp_path / "new" / "folder" / "a.txt"
        with atomic_path(target) as part:
            part.write_text("whole")
            assert part.parent == target.parent
            assert not target.exists()
        assert target.read_text() == "whole"
        assert names(target.parent) == ["a.txt"]

    def test_an_existing_file_is_replaced_at_the_end(self, tmp_path) -> None:
        target = tmp_path / "a.txt"
        target.write_text("old")
        with atomic_path(target) as part:
            part.write_text("new")
            assert target.read_text() == "old"
        assert target.read_text() == "new"

    @pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), SystemExit(1)])
    def test_an_exception_leaves_the_old_file_and_nothing_else(self, error, tmp_path) -> None:
        target = tmp_path / "a.txt"
        target.write_text("old")
        with pytest.raises(type(error)):
            write_half(target, error)
        assert target.read_text() == "old"
        assert names(tmp_path) == ["a.txt"]

    def test_a_full_disk_is_refused_with_what_is_free(self, tmp_path) -> None:
        target = tmp_path / "a.txt"
        target.write_text("old")
        message = r"cannot write .*a\.txt: No space left.*MiB are free.*choose a folder"
        with pytest.raises(ResourceError, match=message):
            write_half(target, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        assert target.read_text() == "old"
        assert names(tmp_path) == ["a.txt"]

    def test_a_folder_below_a_file_is_refused(self, tmp_path) -> None:
        (tmp_path / "file").write_text("x")
        with (
            pytest.raises(ResourceError, match=r"cannot write .*file.a\.txt.*choose a folder"),
            atomic_path(tmp_path / "file" / "a.txt"),
        ):
            pytest.fail("the block must not run")

    def test_the_content_is_on_disk_before_the_name_is(self, tmp_path, monkeypatch) -> None:
        order = []
        monkeypatch.setattr(os, "fsync", lambda _: order.append("flushed"))
        replace = Path.replace
        monkeypatch.setattr(
            Path, "replace", lambda a, b: (order.append("renamed"), replace(a, b))[1]
        )
        write_text(tmp_path / "a.txt", "x")
        assert order == ["flushed", "renamed"]

    @pytest.mark.parametrize("umask", [0o022, 0o077, 0o002, 0o000])
    def test_permissions_follow_the_umask(self, umask, tmp_path) -> None:
        before = os.umask(umask)
        try:
            write_text(tmp_path / "a.txt", "x")
            assert os.umask(umask) == umask
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o666 & ~umask

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
    def test_a_folder_without_permission_is_refused(self, tmp_path) -> None:
        tmp_path.chmod(0o500)
        try:
            with pytest.raises(ResourceError, match="Permission denied"):
                write_text(tmp_path / "a.txt", "x")
        finally:
            tmp_path.chmod(0o700)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary() | st.text())
def test_what_is_written_is_read(content, tmp_path) -> None:
    target = tmp_path / "a"
    if isinstance(content, bytes):
        write_bytes(target, content)
        assert target.read_bytes() == content
    else:
        write_text(target, content)
        assert target.read_bytes() == content.encode()
    assert sha256(target) == hashlib.sha256(target.read_bytes()).hexdigest()


class TestRequireWritable:
    def test_a_new_folder_is_made_and_left_empty(self, tmp_path) -> None:
        require_writable(tmp_path / "a" / "b")
        assert names(tmp_path / "a" / "b") == []
        require_writable(tmp_path / "a" / "b")

    @pytest.mark.parametrize("below", ["file", "file/a/b"])
    def test_a_file_in_the_way_is_refused(self, below, tmp_path) -> None:
        (tmp_path / "file").write_text("x")
        with pytest.raises(ResourceError, match=r"cannot write .*file.*choose a folder") as caught:
            require_writable(tmp_path / below)
        assert caught.value.exit_code == 4
        assert (tmp_path / "file").read_text() == "x"


class TestReplacing:
    def write(self, folder, *names, text="medseg", **options) -> None:
        targets = [folder / name for name in names]
        with replacing(targets, **options):
            for target in targets:
                write_text(target, text)

    def test_its_own_files_are_replaced(self, tmp_path) -> None:
        self.write(tmp_path / "new", "a.html", "a.md")
        self.write(tmp_path / "new", "a.html", "a.md", text="again")
        assert (tmp_path / "new/a.md").read_text() == "again"

    @pytest.mark.parametrize("change", ["a foreign file", "an edited file", "a folder"])
    def test_what_somebody_else_wrote_stays_and_nothing_is_written(self, tmp_path, change) -> None:
        foreign = tmp_path / "a.md"
        if change == "an edited file":
            self.write(tmp_path, "a.md")
        if change == "a folder":
            foreign.mkdir()
        else:
            foreign.write_text("mine")
        with pytest.raises(ConfigError, match=r"a\.md exists"):
            self.write(tmp_path, "a.html", "a.md")
        assert not (tmp_path / "a.html").exists()
        assert foreign.is_dir() or foreign.read_text() == "mine"

    def test_it_is_replaced_where_that_is_asked_for(self, tmp_path) -> None:
        (tmp_path / "a.md").write_text("mine")
        self.write(tmp_path, "a.md", overwrite=True)
        assert (tmp_path / "a.md").read_text() == "medseg"

    def test_a_failed_block_makes_no_foreign_file_its_own(self, tmp_path) -> None:
        (tmp_path / "a.md").write_text("mine")
        with (
            pytest.raises(ValueError, match="failed"),
            replacing([tmp_path / "a.md"], overwrite=True),
        ):
            raise ValueError("failed")
        with pytest.raises(ConfigError):
            self.write(tmp_path, "a.md")


def test_parts_of_a_killed_process_are_swept_and_nothing_else(tmp_path) -> None:
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    with pytest.MonkeyPatch.context() as killed:
        killed.setattr(Path, "unlink", lambda *_, **__: None)
        for folder in (tmp_path, deep):
            with pytest.raises(ValueError, match="killed"), atomic_path(folder / "x"):
                raise ValueError("killed")
    assert len(list(tmp_path.rglob(".*.part"))) == 2
    kept = [tmp_path / "data.part", deep / ".hidden", deep / "x.txt"]
    for path in kept:
        path.write_text("x")
    sweep_parts(tmp_path)
    assert sorted(p for p in tmp_path.rglob("*") if p.is_file()) == sorted(kept)
    sweep_parts(tmp_path / "nothing")
