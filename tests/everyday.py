"""Forty everyday cursors, completed by a model and printed, to be judged by a person: useful, harmless, wrong, empty.

    python -m tests.everyday --model qwen2.5-coder-0.5b > everyday.txt

Each is asked twice, as an editor does while one types, and as the user does by a key. Nothing is asserted.
"""

from __future__ import annotations

import argparse

from greencode_lsp.completion.backend import load_backend
from greencode_lsp.completion.pipeline import LiveControl, complete
from greencode_lsp.completion.request import Request
from greencode_lsp.energy.detect import detect
from greencode_lsp.settings import Settings

PYTHON = [
    "def mean(values: list[float]) -> float:\n    return |\n",
    "import json\nfrom pathlib import Path\n\n\ndef load(path: Path) -> dict:\n    with open(path) as |\n        return json.load(handle)\n",
    "class Account:\n    def __init__(self, owner: str, balance: int = 0) -> None:\n        self.owner = owner\n        |\n",
    "def fibonacci(n: int) -> int:\n    if n < 2:\n        return n\n    |\n",
    "import argparse\n\nparser = argparse.ArgumentParser()\nparser.add_argument('--name', |)\nargs = parser.parse_args()\n",
    "words = text.split()\ncounts = {}\nfor word in words:\n    counts[word] = |\n",
    "def read_lines(path):\n    with open(path, encoding='utf8') as file:\n        return [line.|  for line in file]\n",
    "import re\n\nEMAIL = re.compile(r'|')\n",
    "try:\n    value = int(text)\nexcept |\n    value = 0\n",
    'def is_even(n: int) -> bool:\n    """|"""\n    return n % 2 == 0\n',
    "from dataclasses import dataclass\n\n\n@dataclass\nclass Point:\n    x: float\n    y: float\n\n    def distance(self, other: |) -> float:\n        return ((self.x - other.x) ** 2 + (self.y - other.y) ** 2) ** 0.5\n",
    "import logging\n\nlogger = logging.getLogger(|)\n",
    "numbers = [3, 1, 2]\nprint(sorted(numbers, |))\n",
    "def test_addition():\n    assert add(2, 3) == |\n",
    "if __name__ == |\n    main()\n",
    "import os\n\nhome = os.environ.get(|)\n",
]
OTHERS = [
    ("java", "public class User {\n    private int age;\n\n    public int getAge() { | }\n}\n"),
    ("java", "for (int i = 0; |) {\n    System.out.println(items[i]);\n}\n"),
    ("java", 'List<String> names = new |;\nnames.add("a");\n'),
    ("java", "public static int max(int a, int b) {\n    return |\n}\n"),
    ("javascript", "function sum(values) {\n  return values.reduce(|);\n}\n"),
    ("javascript", "const response = await fetch(url);\nconst data = |\nconsole.log(data);\n"),
    ("javascript", "document.getElementById('save').addEventListener('click', |);\n"),
    (
        "typescript",
        "interface User {\n  id: number;\n  name: string;\n}\n\nfunction greet(user: |): string {\n  return `Hello ${user.name}`;\n}\n",
    ),
    ("typescript", "const names: string[] = users.map(|);\n"),
    (
        "go",
        'package main\n\nimport "os"\n\nfunc read(path string) ([]byte, error) {\n\tdata, err := os.ReadFile(path)\n\tif err != nil {\n\t\treturn |\n\t}\n\treturn data, nil\n}\n',
    ),
    ("go", "for i, item := range |\n\tfmt.Println(i, item)\n}\n"),
    ("rust", "fn add(a: i32, b: i32) -> i32 {\n    |\n}\n"),
    ("rust", "let total: i32 = numbers.iter().|;\n"),
    ("c", "#include <stdio.h>\n\nint main(void) {\n    printf(|);\n    return 0;\n}\n"),
    (
        "cpp",
        "#include <vector>\n\nint sum(const std::vector<int>& values) {\n    int total = 0;\n    for (|) {\n        total += value;\n    }\n    return total;\n}\n",
    ),
    ("csharp", "public class Person\n{\n    public string Name { |\n}\n"),
    ("php", "<?php\nfunction area($width, $height) {\n    return |\n}\n"),
    ("ruby", "def full_name\n  |\nend\n"),
    ("shellscript", "#!/bin/bash\nfor file in *.txt; do\n  echo |\ndone\n"),
    ("sql", "SELECT name, COUNT(*) FROM orders |;\n"),
    ("html", "<ul>\n  <li>One</li>\n  <li>|\n</ul>\n"),
    ("css", ".button {\n  background-color: #336699;\n  |\n}\n"),
    ("yaml", "services:\n  web:\n    image: nginx\n    |\n"),
    ("markdown", "# Install\n\n```\npip install |\n```\n"),
]


def main() -> None:
    """Complete all of them."""
    parser = argparse.ArgumentParser(prog="python -m tests.everyday", description=__doc__)
    parser.add_argument("--model", default="bundled")
    settings = Settings(model=parser.parse_args().model)
    backend = load_backend(settings)
    meter = detect(backend.engine.device, print, backend.checkpoint)
    cursors = [*(("python", text) for text in PYTHON), *OTHERS]
    for number, (language, marked) in enumerate(cursors, 1):
        offset = marked.index("|")
        text = marked[:offset] + marked[offset + 1 :]
        print(f"== {number} {language}\n{marked.rstrip()}")
        for invoked in (False, True):
            control = LiveControl.of(settings, backend.manifest, language)
            completion = complete(backend, Request(text, offset, language, invoked=invoked), control, meter)
            print(f"   {'invoked' if invoked else 'automatic'}: {completion.text!r} ({completion.elapsed_ms:.0f} ms)")


if __name__ == "__main__":
    main()
