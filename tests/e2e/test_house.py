# SPDX-License-Identifier: Apache-2.0
"""What scripts/check-house must see, shown on small trees: a rule that finds nothing in a good tree may as well be blind."""
import os
import shutil
import subprocess
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DRAWING = """# X

## Rooms
| room | what it is | knows of |
|---|---|---|
| `src/base` | ground | nothing |
| `src/wire` | wires | base's errors |
| `src/migrate` | both sides | all above |
| `src/cmd`, `main.c` | the command line | migrate; not wire: that is migrate's business |

## Threads
"""
TREE = {
    "docs/architecture.md": DRAWING,
    "src/base/error.h": "struct error { int a, b; };\nint error_set(struct error *err);\n",
    "src/base/error.c": '#include "base/error.h"\nint error_set(struct error *err) {\n    return -1;\n}\n',
    "src/wire/conn.h": '#include "base/error.h"\nint conn_open(struct error *err);\n',
    "src/wire/conn.c": '#include "wire/conn.h"\nint conn_open(struct error *err) {\n    return error_set(err);\n}\n',
    "src/migrate/source.h": '#include "wire/conn.h"\nint source_run(void);\n',
    "src/migrate/source.c": '#include "migrate/source.h"\nint source_run(void) {\n    return conn_open(0);\n}\n',
    "src/cmd/send.c": '#include "migrate/source.h"\nint cmd_send(void) {\n    return source_run();\n}\n',
    "src/main.c": "int main(void) {\n    return cmd_send();\n}\n",
}


def members(count):
    return "".join(f"    int m{i};\n" for i in range(count))


def struct(name, count):
    return "struct %s {\n%s};\n" % (name, members(count))


@pytest.fixture(name="house")
def fixture_house(tmp_path):
    def check(changes=None):
        for path, text in {**TREE, **(changes or {})}.items():
            os.makedirs(os.path.dirname(tmp_path / path), exist_ok=True)
            (tmp_path / path).write_text(text, encoding="utf-8")
        return subprocess.run([sys.executable, os.path.join(ROOT, "scripts", "check-house")],
                              env={**os.environ, "CHECK_HOUSE_ROOT": str(tmp_path)}, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, check=False)
    return check


def test_a_good_house(house):
    result = house()
    assert result.returncode == 0 and result.stderr == "" and "8 files, no circles" in result.stdout, result


CALL_BACK = '#include "wire/conn.h"\nint conn_open(struct error *err) {\n    return conn_more();\n}\nint conn_again(void) {\n    return 1;\n}\n'
MORE = "int\nconn_more(int a,\n          int b) {\n    return conn_again();\n}\n"
WRONG = {
    "an arrow that runs up": ({"src/base/error.c": '#include "wire/conn.h"\n'}, "src/base/error.c:1: base must not know wire"),
    "an arrow that is not drawn": ({"src/cmd/send.c": '#include "wire/conn.h"\n'}, "cmd must not know wire"),
    "a room without a row": ({"src/disk/x.c": "\n"}, "the room disk is not in the table"),
    "a row that names no room": ({"docs/architecture.md": DRAWING.replace("base's errors", "migrate")},
                                 "wire knows of 'migrate', which is no room above it"),
    "no drawing": ({"docs/architecture.md": "# X\n"}, "no table of rooms"),
    "headers in a circle": ({"src/base/error.h": '#include "base/more.h"\n', "src/base/more.h": '#include "base/error.h"\n'},
                            "src/base/error.h includes src/base/more.h"),
    "calls in a circle": ({"src/wire/conn.c": CALL_BACK, "src/wire/more.c": MORE}, "src/wire/conn.c calls src/wire/more.c, which leads back"),
    "a large struct": ({"src/migrate/source.h": struct("source", 16)}, "struct source has 16 members"),
    "members side by side": ({"src/migrate/source.h": "struct source { int " + ", ".join(f"*m{i}[3]" for i in range(16)) + "; };"},
                             "struct source has 16 members"),
    "a large struct within one": ({"src/migrate/source.h": "struct a {\n" + struct("inner", 16).replace("};", "} b;") + "};\n"},
                                  "struct inner has 16 members"),
}


@pytest.mark.parametrize("what", list(WRONG))
def test_what_is_wrong(house, what):
    changes, why = WRONG[what]
    result = house(changes)
    assert result.returncode == 1 and why in result.stderr, result


def test_what_is_not_wrong(house):
    result = house({
        "src/migrate/source.h": struct("source", 15) + "int source_run(void);\n",
        # functions, comments and texts are no members and no calls; a static function is its file's own
        "src/migrate/other.h": "struct other {\n" + members(14) + "    int (*call)(int a, int b, int c); /* ; ; ; */\n};\n",
        "src/wire/conn.c": CALL_BACK.replace("conn_more()", "0"),
        "src/wire/more.c": 'static int conn_open(int a) {\n    return a;\n}\nint conn_more(void) {\n    /* conn_again() */\n'
                           '    return conn_open(sizeof("conn_again()"));\n}\n',
        "src/wire/third.c": "int third(void) {\n    return conn_more();\n}\n"})
    assert result.returncode == 0, result


def test_this_tree(tmp_path):
    """As `make style` has it; and the check would see a new arrow here too."""
    check = [sys.executable, os.path.join(ROOT, "scripts", "check-house")]
    result = subprocess.run(check, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
    assert result.returncode == 0, result
    for folder in ("src", "docs", "scripts"):
        shutil.copytree(os.path.join(ROOT, folder), tmp_path / folder)
    with open(tmp_path / "src/base/error.c", "a", encoding="utf-8") as file:
        file.write('#include "migrate/source.h"\n')
    result = subprocess.run(check, env={**os.environ, "CHECK_HOUSE_ROOT": str(tmp_path)}, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, check=False)
    assert result.returncode == 1 and "base must not know migrate" in result.stderr, result
