# SPDX-License-Identifier: Apache-2.0
"""godwit bench codec: what it says of memory whose content is known, and what it does not accept."""
import json
import os
import random
import subprocess

import pytest

from gwtest import places
from gwtest.qemu import MIB, Backend

PAGE = 4096
FIELDS = {"codec", "level", "ratio", "compress", "decompress", "beats-raw-below", "best-below", "in", "out"}


def bench(*args):
    return subprocess.run([places.godwit(), "bench", *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, check=False)


def bench_json(*args):
    result = bench("codec", "--json", *args)
    assert result.returncode == 0 and result.stderr == ""
    return json.loads(result.stdout)


def text_page(number):
    return (b"page %d of the guest's memory. " % number * 200)[:PAGE]


@pytest.fixture
def memory(engine, tmp_path):
    """memory(page, ...) writes a file of such pages; None is a page of zeros, and a hole."""
    def write(*pages):
        path = tmp_path / "memory"
        with open(path, "wb") as file:
            for number, page in enumerate(pages):
                if page is not None:
                    file.seek(number * PAGE)
                    file.write(page)
            file.truncate(len(pages) * PAGE)
        return path
    return write


def by_codec(result):
    return {(r["codec"], r["level"]): r for r in result["rows"]}


def test_known_content(memory):
    pages = [text_page(n) if n % 4 == 0 else None for n in range(256)]
    result = bench_json(memory(*pages))
    assert result["memory"] == result["sampled"] == 256 * PAGE
    assert result["zero"] == 192 * PAGE and result["pages-per-batch"] == 128
    rows = by_codec(result)
    assert {c for c, _ in rows} == {"lz4", "zstd", "deflate"} and len(rows) == len(result["rows"])
    for row in rows.values():
        assert set(row) == FIELDS
        assert row["in"] > 0 and row["in"] % (64 * PAGE) == 0  # whole rounds over what is not zero
        assert row["ratio"] == pytest.approx(row["in"] / row["out"], rel=1e-3) and row["ratio"] > 10
        assert row["compress"] > 0 and row["decompress"] > 0 and row["beats-raw-below"] > 0


def test_links_follow_from_speeds(memory):
    """Recomputes both columns from the others, in another way: by trying links."""
    rng = random.Random(1)
    words = [rng.randbytes(rng.randrange(3, 12)) for _ in range(400)]
    pages = [b"".join(rng.choice(words) for _ in range(1500))[:PAGE] for _ in range(256)]
    rows = bench_json(memory(*pages))["rows"]

    def seconds(row, link):
        return 1 / row["compress"] + row["out"] / row["in"] / (link / 8)

    def capped(row, below):  # by the other host's decompression, which seconds() knows nothing of
        return below > 8 * row["decompress"] * 0.99

    for row in rows:
        below = row["beats-raw-below"]
        if below is not None and not capped(row, below):
            assert seconds(row, below * 0.99) < 8 / (below * 0.99)
            assert seconds(row, below * 1.01) > 8 / (below * 1.01)
    best = sorted((r for r in rows if r["best-below"] is not None), key=lambda r: -r["best-below"])
    assert best
    for row, stronger in zip(best, best[1:] + [None]):
        if stronger and capped(stronger, stronger["best-below"]):
            continue
        low = stronger["best-below"] if stronger else row["best-below"] / 4
        link = (low * row["best-below"]) ** 0.5
        # nearly as good as the best is good enough: two rows may be the same to the last digit
        assert seconds(row, link) <= 1.0001 * min(min(seconds(r, link) for r in rows), 8 / link)


def test_what_does_not_shrink(memory):
    rng = random.Random(2)
    rows = bench_json(memory(*[rng.randbytes(PAGE) for _ in range(256)]))["rows"]
    for row in rows:
        assert row["in"] == row["out"] and row["ratio"] == 1
        assert row["beats-raw-below"] is None and row["best-below"] is None and row["decompress"] == 0


def test_only_zeros(memory):
    path = memory(*[None] * 64)
    result = bench_json(path)
    assert result["rows"] == [] and result["zero"] == result["sampled"] == 64 * PAGE
    assert "nothing to compress" in bench("codec", path).stdout


def test_sample_is_spread(memory):
    """A quarter of the memory, and the half of it that is text has its half of the sample."""
    path = memory(*[text_page(n) if n >= 256 else None for n in range(512)])
    result = bench_json(path, "--size", 512 * PAGE // 4, "--pages-per-batch", 8)
    assert result["memory"] == 512 * PAGE and result["sampled"] == 128 * PAGE and result["zero"] == 64 * PAGE
    assert result["pages-per-batch"] == 8


def test_less_than_a_batch_and_an_odd_end(memory):
    path = memory(*[text_page(n) for n in range(3)])
    with open(path, "ab") as file:
        file.write(b"half a page")
    result = bench_json(path)
    assert result["sampled"] == 3 * PAGE and result["zero"] == 0 and result["rows"]


def test_text_is_a_plain_table(memory):
    result = bench("codec", memory(*[text_page(n) for n in range(64)]))
    assert result.returncode == 0 and result.stderr == ""
    assert "\x1b" not in result.stdout and "\r" not in result.stdout
    head, names, units, *rows = result.stdout.splitlines()
    assert "0 % of that is zero pages" in head and "best below" in names and "Mbit/s" in units
    assert {row.split()[0] for row in rows} == {"lz4", "zstd", "deflate"}
    assert {len(row.split()) for row in rows} == {8}


@pytest.mark.parametrize("args, why", [
    ((), "what is to be tried"), (("disk",), "no bench of 'disk'"), (("codec",), "whose memory"),
    (("codec", "a", "b"), "what is 'b' for"), (("codec", "--guest", "s", "a"), "what is 'a' for"),
    (("codec", "a", "--size", "x"), "--size x"), (("codec", "a", "--size", "1"), "4K to 64G"),
    (("codec", "a", "--size", "4T"), "--size 4T"), (("codec", "a", "--size", "1MM"), "--size 1MM"),
    (("codec", "a", "--size", "99999999999999999999"), "4K to 64G"), (("codec", "a", "--size", "17179869184G"), "--size"),
    (("codec", "a", "--pages-per-batch", "0"), "1..1024"), (("codec", "a", "--pages-per-batch", "1025"), "1..1024"),
    (("codec", "a", "--pages-per-batch", "8K"), "1..1024"), (("codec", "a", "--fast"), "unrecognized option")])
def test_wrong_use(engine, args, why):
    result = bench(*args)
    assert result.returncode == 2 and why in result.stderr and result.stdout == ""


def test_files_that_are_none(engine, tmp_path):
    (tmp_path / "short").write_bytes(b"short")
    os.mkfifo(tmp_path / "pipe")
    for name, why in (("missing", "No such file"), ("short", "less than a page"), ("pipe", "at any place"),
                      (".", "at any place")):
        result = bench("codec", tmp_path / name)
        assert result.returncode == 1 and why in result.stderr and result.stdout == "", name
        assert str(tmp_path) in result.stderr


@pytest.mark.smoke
@pytest.mark.parametrize("path", [None, "ram"], ids=["own", "file"])
def test_running_guest(engine, root, make_stunt, shm, path):
    """Its RAM is its own memory, or a file."""
    guest = make_stunt(backends=[Backend("ram0", 64 * MIB, path and os.path.join(shm, path))], fill=50)
    result = bench_json("--guest", guest.qmp_path, "--size", "16M")
    assert result["memory"] == 64 * MIB and result["sampled"] == 16 * MIB
    assert 0 < result["zero"] < 16 * MIB and result["rows"]
    assert guest.exit_status() is None
    assert guest.qmp.execute("query-status")["status"] == "running"  # the monitor is free again


def test_nobody_at_the_monitor(engine, tmp_path):
    result = bench("codec", "--guest", tmp_path / "none")
    assert result.returncode == 1 and str(tmp_path / "none") in result.stderr and result.stdout == ""
