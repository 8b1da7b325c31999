"""Files are whole or absent."""

import errno
import hashlib
import json
import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medseg.errors import ConfigError, ResourceError
from medseg.files import (
    atomic_path,
    file_ids,
    own_text,
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
@given(content=st.binary() | st.text(st.characters(exclude_categories=["Cs"])))
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

    def then_fails(self, target) -> None:
        write_text(target, "new")
        raise ValueError("the second")

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

    def test_files_that_belong_together_appear_together(self, tmp_path) -> None:
        targets = [tmp_path / "a.html", tmp_path / "new" / "a.md"]
        with replacing(targets):
            for target in targets:
                write_text(target, "medseg")
                assert not target.exists()
        assert all(target.read_text() == "medseg" for target in targets)

    def test_a_block_that_fails_at_the_last_file_leaves_the_older_ones(self, tmp_path) -> None:
        self.write(tmp_path, "a.html", "a.md", text="older")
        targets = [tmp_path / "a.html", tmp_path / "a.md"]
        with pytest.raises(KeyboardInterrupt), replacing(targets):
            write_half(targets[0], KeyboardInterrupt())
        with pytest.raises(ValueError, match="second"), replacing(targets):
            self.then_fails(targets[0])
        assert {(tmp_path / name).read_text() for name in ("a.html", "a.md")} == {"older"}
        assert names(tmp_path) == [".medseg.json", "a.html", "a.md"]

    def test_a_folder_made_for_nothing_is_gone_with_those_above_it(self, tmp_path) -> None:
        with pytest.raises(ValueError, match="failed"), replacing([tmp_path / "a" / "b" / "c.md"]):
            raise ValueError("failed")
        assert names(tmp_path) == []

    def test_what_is_not_written_again_belongs_to_the_older_result(self, tmp_path) -> None:
        self.write(tmp_path, "a.html", "old.md")
        (tmp_path / "mine.md").write_text("mine")
        targets = [tmp_path / name for name in ("a.html", "old.md", "mine.md")]
        with replacing(targets, overwrite=True):
            write_text(targets[0], "new")
        assert names(tmp_path) == [".medseg.json", "a.html", "mine.md"]

    @pytest.mark.parametrize("name", ["itself", "a link to it", "a hard link to it"])
    def test_an_input_is_never_replaced(self, name, tmp_path) -> None:
        source, target = tmp_path / "in.md", tmp_path / "out.md"
        source.write_text("mine")
        match name:
            case "itself":
                target = source
            case "a link to it":
                target.symlink_to(source)
            case _:
                target.hardlink_to(source)
        with (
            pytest.raises(ConfigError, match="is an input"),
            replacing([target], overwrite=True, inputs=file_ids([source, tmp_path / "gone"])),
        ):
            pytest.fail("the block must not run")
        assert source.read_text() == "mine"

    def test_a_link_to_what_is_not_there_now_stays(self, tmp_path) -> None:
        (tmp_path / "a.md").symlink_to(tmp_path / "unmounted" / "a.md")
        with pytest.raises(ConfigError, match=r"a\.md exists"):
            self.write(tmp_path, "a.md")
        assert (tmp_path / "a.md").is_symlink()

    @pytest.mark.parametrize("step", [0, 1, 2])
    def test_what_a_kill_left_between_the_files_is_known_as_medsegs(
        self, step, tmp_path, monkeypatch
    ) -> None:
        self.write(tmp_path, "a.html", "a.md", text="older")
        replace, done = Path.replace, []

        def killed(part: Path, target: Path) -> Path:
            if target.name.startswith("a."):
                if len(done) == step:
                    raise SystemExit(9)
                done.append(target)
            return replace(part, target)

        if step < 2:
            monkeypatch.setattr(Path, "replace", killed)
            with pytest.raises(SystemExit):
                self.write(tmp_path, "a.html", "a.md", text="new")
            monkeypatch.undo()
        self.write(tmp_path, "a.html", "a.md", text="newest")
        assert (tmp_path / "a.md").read_text() == "newest"

    @pytest.mark.parametrize("content", ["[]", "{", '{"a.md": 3}', "[" * 99_999, '{"a.md": [[]]}'])
    def test_a_list_that_says_nothing_makes_no_file_medsegs(self, content, tmp_path) -> None:
        (tmp_path / ".medseg.json").write_text(content)
        (tmp_path / "a.md").write_text("mine")
        with pytest.raises(ConfigError, match=r"a\.md exists"):
            self.write(tmp_path, "a.md")


HOLDS_A_PART = """
import sys, time
from pathlib import Path
from medseg.files import atomic_path
with atomic_path(Path(sys.argv[1])) as part:
    part.write_text("half")
    print(part.name, flush=True)
    time.sleep(600)
"""


def test_parts_of_a_killed_process_are_swept_and_those_of_a_living_one_stay(tmp_path) -> None:
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    kept = [tmp_path / "data.part", deep / ".hidden", deep / "x.txt", deep / ".mine.part"]
    for path in kept:
        path.write_text("x")
    command = [sys.executable, "-c", HOLDS_A_PART, str(deep / "y")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        part = deep / process.stdout.readline().strip()
        sweep_parts(tmp_path)
        assert part.read_text() == "half"
        process.kill()
    with replacing([deep / "z"]):  # of another command, into the same folder
        write_text(deep / "z", "x")
    assert not part.exists()
    (deep / ".abcdefgh.part").write_text("half")  # of a version that knew no lock
    sweep_parts(tmp_path)
    listed = {deep / ".medseg.json", deep / "z"}
    assert {p for p in tmp_path.rglob("*") if p.is_file()} == {*kept, *listed}
    sweep_parts(tmp_path / "nothing")


def test_many_that_write_into_one_folder_know_all_files_as_theirs(tmp_path) -> None:
    def write(number: int) -> None:
        with replacing([tmp_path / f"{number}.md"]):
            write_text(tmp_path / f"{number}.md", "x")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(40)))
    listed = json.loads((tmp_path / ".medseg.json").read_text())
    assert sorted(listed) == sorted(f"{number}.md" for number in range(40))


def test_lone_surrogates_of_a_file_name_can_be_written(tmp_path) -> None:
    write_text(tmp_path / "a.md", "caf\udce9")
    assert (tmp_path / "a.md").read_text(encoding="utf-8") == "caf\\udce9"


@pytest.mark.parametrize("change", [b"", b"other", b"\xff", None], ids=str)
def test_a_text_that_was_changed_is_no_longer_ones_own(change, tmp_path) -> None:
    target = tmp_path / "kept.yaml"
    with replacing([target]):
        write_text(target, "ü: 1\n")
    assert own_text(target) == "ü: 1\n"
    target.unlink()
    if change is not None:
        target.write_bytes(change)
    assert own_text(target) is None
