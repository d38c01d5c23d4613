"README's promises, kept as a stranger would find them."

import os
import re
import subprocess
import sys


def test_the_python_in_readme_runs_offline_in_an_empty_folder(root, tmp_path):
    "What README shows prints what README says, in a folder that holds nothing, with no way to the network."
    text = (root / "README.md").read_text(encoding="utf-8")
    shown = re.search(r"```python\n(.*?)```\n+((?:(?: {4}[^\n]*)?\n)*)", text, re.S)
    code, printed = shown[1], re.sub(r"^ {4}", "", shown[2], flags=re.M).split()
    assert len([line for line in code.splitlines() if line.strip()]) <= 8 and printed
    no_network = "import socket\ndef _refuse(*_, **__): raise OSError('README goes to the network')\nsocket.socket.connect = socket.getaddrinfo = _refuse\n"
    program = no_network + code
    env = os.environ | {"PYTHONPATH": str(root), "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == printed


def test_every_command_in_readme_and_contributing_is_in_the_makefile(root):
    named = set(
        re.findall(r"\bmake ([a-z]+)", (root / "README.md").read_text() + (root / "CONTRIBUTING.md").read_text())
    )
    targets = set(re.findall(r"^([a-z]+):", (root / "Makefile").read_text(), re.M))
    assert {"run", "test"} <= named <= targets


def test_every_link_in_readme_and_contributing_leads_to_a_file(root):
    for page in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        for target in re.findall(r"\]\(([^)#:]+)\)", (root / page).read_text(encoding="utf-8")):
            assert (root / target).exists(), f"{page} links to {target}"
