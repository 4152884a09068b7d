"""Licence notices at the head of a file go; the code, and comments that are none, stay."""

from __future__ import annotations

import pytest

from training.data.licences import without_notice

BODY = "import os\n\nLICENCE = 'MIT'  # the licence of what we write\n"


@pytest.mark.parametrize(
    "head",
    [
        "# Copyright 2020 The Authors\n# All rights reserved.\n\n",
        "#!/usr/bin/env python\n# -*- coding: utf-8 -*-\n\n# Licensed under the Apache License, Version 2.0\n",
        "# SPDX-License-Identifier: MIT\n",
        '"""\nCopyright (c) 2019\n"""\n',
        "/*\n * Licensed to the Apache Software Foundation (ASF)\n */\n",
        "// Copyright 2021\n// Use of this source code is governed by a BSD-style license.\n\n",
        "// generated tables\n\n/* Copyright */\n\n",
    ],
)
def test_a_notice_is_cut_off(head: str) -> None:
    assert without_notice(head + BODY) == BODY


@pytest.mark.parametrize(
    "text",
    [
        BODY,
        "# How lines are counted.\n" + BODY,
        '"""Counts lines."""\n' + BODY,
        "package a;\n\n/* Copyright: see below */\nclass A {}\n",
        "",
    ],
)
def test_other_text_is_left_as_it_is(text: str) -> None:
    assert without_notice(text) == text


def test_what_follows_the_notice_stays() -> None:
    assert without_notice('# Copyright 2020\n\n"""Counts lines."""\n' + BODY) == '"""Counts lines."""\n' + BODY
