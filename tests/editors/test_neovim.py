"""The Neovim plugin typed into, in each version that the cache has: keys, ghost text, stale answers, popups."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.editors.neovim_session import SCRIPTED, Neovim, asked, asked_at, neovim, suggest

STATE = "return { vim.b.changedtick, vim.api.nvim_win_get_cursor(0), vim.api.nvim_get_mode().mode }"
TWO_LINES = "first(1)\nsecond(2)"


# keys


def test_tab_inserts_all_that_is_suggested_and_tells_the_server(editor: Neovim) -> None:
    suggest(editor, "x = ", TWO_LINES)
    editor.type("<Tab>")
    editor.wait_text(f"x = {TWO_LINES}")
    assert editor.ghost == ""
    assert editor.nvim.current.window.cursor == (2, len("second(2)"))
    editor.wait(lambda: editor.lua("return server.commands") == [["greencode.accept", ["7"]]], "the server is notified")


def test_the_word_key_inserts_word_by_word_and_the_rest_stays_visible(editor: Neovim) -> None:
    suggest(editor, "x = ", "größe.wert + 1")
    for text, rest in (("x = größe", ".wert + 1"), ("x = größe.", "wert + 1"), ("x = größe.wert", " + 1")):
        editor.type("<M-Right>")
        editor.wait_text(text)
        editor.wait_ghost(rest)
    assert editor.lua("return server.commands") == []
    editor.type("<M-Right><M-Right>")
    editor.wait_text("x = größe.wert + 1")
    editor.wait(lambda: editor.lua("return #server.commands") == 1, "the last word tells the server")


def test_the_line_key_inserts_line_by_line_and_the_rest_stays_visible(editor: Neovim) -> None:
    suggest(editor, "x = ", "first(1)\n    second(2)\nthird(3)")
    editor.type("<M-C-Right>")
    editor.wait_text("x = first(1)")
    editor.wait_ghost("\n    second(2)\nthird(3)")
    editor.type("<M-C-Right>")
    editor.wait_text("x = first(1)\n    second(2)")
    editor.wait_ghost("\nthird(3)")
    editor.type("<Tab>")
    editor.wait_text("x = first(1)\n    second(2)\nthird(3)")


def test_the_server_hears_which_buffer_the_user_turns_to(editor: Neovim) -> None:
    first = editor.files / "sample.py"
    editor.type("<Esc>")
    editor.command(f"edit {editor.files / 'second.py'}")
    editor.wait_attached()
    editor.command(f"buffer {first}")
    focused = "return vim.tbl_filter(function(n) return n[1] == 'textDocument/didFocus' end, server.notified)"
    editor.wait(
        lambda: [params["textDocument"]["uri"] for _, params in editor.lua(focused)][-1:] == [first.as_uri()],
        "the server is told",
    )


def invoked(editor: Neovim, count: int) -> None:
    """Wait for a request of the user's own, the server's so manieth."""
    newest = "local asked = server.asked[...]; return asked and asked.params.context.triggerKind == 1"
    editor.wait(lambda: editor.lua(newest, count), "the server is asked for more")


def test_the_next_key_asks_for_more_and_then_goes_round_and_the_previous_key_back(editor: Neovim) -> None:
    suggest(editor, "x = ", "first")
    count = editor.lua("return #server.asked")
    editor.type("<M-]>")
    invoked(editor, count + 1)
    editor.lua("server.answer_several(...)", ["first", "second", "third"])
    for key, text in (("", "second"), ("<M-]>", "third"), ("<M-]>", "first"), ("<M-[>", "third"), ("<M-[>", "second")):
        editor.type(key)
        editor.wait_ghost(text)
    editor.type("<Tab>")
    editor.wait_text("x = second")
    editor.wait(lambda: editor.lua("return server.commands") == [["greencode.accept", ["2"]]], "its own number is sent")


def test_the_next_key_asks_where_nothing_is_shown(editor: Neovim) -> None:
    editor.type("x = ")
    asked_at(editor, 4)
    editor.lua("server.answer()")
    count = editor.lua("return #server.asked")
    editor.type("<M-]>")
    invoked(editor, count + 1)
    editor.lua("server.answer_several(...)", ["first", "second"])
    editor.wait_ghost("first")
    editor.wait_text("x = ")


def test_of_several_only_those_are_shown_that_fit_what_was_typed_since(editor: Neovim) -> None:
    suggest(editor, "x = ", "first")
    count = editor.lua("return #server.asked")
    editor.type("<M-]>")
    invoked(editor, count + 1)
    editor.lua("server.answer_several(...)", ["first", "second", "fine"])
    editor.wait_ghost("second")
    editor.type("<M-[>f")
    editor.wait_ghost("irst")
    editor.type("<M-]>")
    editor.wait_ghost("ine")
    editor.type("<M-]>")
    editor.wait_ghost("irst")


def test_tab_is_an_ordinary_tab_where_nothing_is_suggested(editor: Neovim) -> None:
    editor.type("x<Tab>y")
    editor.wait_text("x   y")


def test_a_key_typed_right_behind_tab_comes_behind_the_suggestion(editor: Neovim) -> None:
    suggest(editor, "x = ", "first")
    editor.type("<Tab>;")
    editor.wait_text("x = first;")


def test_undo_takes_the_suggestion_back_and_leaves_what_was_typed(editor: Neovim) -> None:
    suggest(editor, "x = ", TWO_LINES)
    editor.type("<Tab><Esc>u")
    editor.wait_text("x = ")


@pytest.mark.parametrize(
    "mapping",
    [
        "vim.keymap.set('i', '<Tab>', 'MINE')",
        "vim.keymap.set('i', '<Tab>', function() return 'MINE' end, { expr = true })",
        "vim.keymap.set('i', '<Tab>', function() vim.api.nvim_put({ 'MINE' }, 'c', false, true) end)",
        "vim.cmd([[inoremap <expr> <Tab> 'MI' . 'NE']])",
    ],
    ids=["keys", "expression", "function", "vimscript"],
)
def test_a_tab_mapping_of_the_users_own_works_where_nothing_is_suggested(
    editor: Neovim, own_tab: Callable[[str], None], mapping: str
) -> None:
    own_tab(mapping)
    editor.type("x<Tab>y")
    editor.wait_text("xMINEy")
    editor.type("<Esc>cc")
    suggest(editor, "x = ", "first")
    editor.type("<Tab>")
    editor.wait_text("x = first")


# what is shown


def test_typing_along_keeps_the_rest_and_typing_apart_hides_it_at_once(editor: Neovim) -> None:
    suggest(editor, "x = ", "first(1)")
    editor.type("fi")
    editor.wait_ghost("rst(1)")
    editor.type("X")
    editor.wait(lambda: editor.text == "x = fiX" and editor.ghost == "", "the ghost is gone")
    editor.type("<Tab>")
    editor.wait_text("x = fiX ")
    editor.type("<BS><BS>")
    editor.wait_ghost("rst(1)")


@pytest.mark.parametrize(
    "keys",
    ["<BS>!", "<Cmd>call setline(1, getline(1) .. ')')<CR>"],
    ids=["before", "after"],
)
def test_a_suggestion_is_hidden_where_the_text_around_it_is_another(editor: Neovim, keys: str) -> None:
    suggest(editor, "x = ", "first(1)")
    editor.type(keys)
    editor.wait(lambda: editor.text != "x = " and editor.ghost == "", "the ghost is gone")
    editor.type("<Tab>")
    editor.wait(lambda: "first" not in editor.text and editor.text.count(" ") > 2, "Tab is an ordinary Tab")


def test_a_suggestion_between_brackets_leaves_what_follows_alone(editor: Neovim) -> None:
    editor.type("call()<Left>")
    asked_at(editor, 5)
    editor.lua("server.answer('a, b')")
    editor.wait_ghost("a, b")
    editor.type("<Tab>")
    editor.wait_text("call(a, b)")


def test_an_item_that_repeats_what_follows_the_cursor_is_shown_without_it(editor: Neovim) -> None:
    editor.type("call()<Left>")
    asked_at(editor, 5)
    editor.lua(
        """
        local range = { start = { line = 0, character = 5 }, ['end'] = { line = 0, character = 6 } }
        server.asked[#server.asked].reply(nil, { items = { { insertText = 'a, b)', range = range } } })
        """
    )
    editor.wait_ghost("a, b")
    editor.type("<Tab>")
    editor.wait_text("call(a, b)")


def test_positions_count_what_the_server_counts(editor: Neovim) -> None:
    editor.type("s = '😀'; n = ")
    asked_at(editor, 14)
    editor.lua("server.answer('s')")
    editor.wait_ghost("s")
    editor.type("<Tab>")
    editor.wait_text("s = '😀'; n = s")


@pytest.mark.parametrize(("result", "ghost"), [("nil", "irst(1)"), ("{ items = {} }", "")], ids=["null", "no items"])
def test_null_leaves_the_ghost_text_and_no_items_take_it_away(editor: Neovim, result: str, ghost: str) -> None:
    suggest(editor, "x = ", "first(1)")
    editor.type("X")  # does not fit: asked again
    asked_at(editor, 5)
    editor.lua(f"server.asked[#server.asked].reply(nil, {result})")
    editor.type("<BS>f")
    editor.wait_text("x = f")
    editor.wait(lambda: editor.ghost == ghost, f"the ghost text is {ghost!r}")


def test_leaving_insert_mode_takes_the_ghost_text_away(editor: Neovim) -> None:
    suggest(editor, "x = ", "first(1)")
    editor.type("<Esc>")
    editor.wait(lambda: editor.mode == "n" and editor.ghost == "", "the ghost is gone")


def test_what_was_typed_while_the_server_started_is_asked_for_without_another_key(
    neovim_executable: Path, tmp_path: Path
) -> None:
    with neovim(neovim_executable, tmp_path, "") as editor:
        editor.open(attached=False)
        editor.type("ix = ")
        editor.wait_text("x = ")
        editor.lua(SCRIPTED)
        asked_at(editor, 4)
        editor.lua("server.answer('first(1)')")
        editor.wait_ghost("first(1)")


# stale answers


@pytest.mark.parametrize(
    ("typed", "keys", "text"),
    [
        ("x = ", "s", "x = s"),
        ("x = ", "s<BS>", "x = "),
        ("x = s<Left>", "<Right>", "x = s"),
        ("x = ", "<Esc>", "x = "),
    ],
    ids=["text", "changedtick", "cursor", "mode"],
)
def test_an_answer_to_an_earlier_state_of_the_buffer_is_dropped(
    editor: Neovim, typed: str, keys: str, text: str
) -> None:
    editor.type(typed)
    asked_at(editor, 4)
    number = editor.lua("return #server.asked")
    before = editor.lua(STATE)
    editor.type(keys)
    editor.wait(lambda: editor.lua(STATE) != before, "the keys did something")
    editor.lua("server.asked[...].reply(nil, { items = { { insertText = 'stale' } } })", number)  # without a range
    assert editor.ghost == ""
    assert editor.text == text


def test_an_answer_for_another_buffer_is_dropped(editor: Neovim) -> None:
    editor.type("x = ")
    asked(editor)
    other = editor.files / "other.py"
    other.write_text("x = \n")
    editor.type(f"<Cmd>edit! {other}<CR>")
    editor.wait(lambda: editor.nvim.current.buffer.name == str(other), "the other buffer is shown")
    editor.lua("server.answer('stale', 1)")
    assert editor.ghost == ""


def test_a_superseded_request_is_cancelled(editor: Neovim) -> None:
    editor.type("x")
    asked(editor)
    editor.type("y")
    asked(editor, 2)
    first, newest = editor.lua("return { server.asked[1].id, server.asked[#server.asked].id }")
    editor.wait(lambda: first in editor.lua("return server.cancelled"), "the first request is cancelled")
    assert newest not in editor.lua("return server.cancelled")


# beside another source of completions


def test_tab_works_in_the_popup_menu_and_no_ghost_text_is_shown_beside_it(
    editor: Neovim, own_tab: Callable[[str], None]
) -> None:
    own_tab(
        """
        local keys = { [0] = '<Tab>', [1] = '<C-n>' }
        vim.keymap.set('i', '<Tab>', function() return keys[vim.fn.pumvisible()] end, { expr = true })
        """
    )
    editor.command("set completeopt=menuone,noinsert,noselect")  # the popup opens and the text stays as it is
    editor.type("wordy<CR>wordier<CR>")
    suggest(editor, "wor", "k = 1")
    editor.type("<C-x><C-n>")
    editor.wait(lambda: editor.nvim.funcs.pumvisible(), "the popup menu is open")
    editor.wait(lambda: editor.ghost == "", "no ghost text is beside it")
    editor.type("<Tab>")
    editor.wait_text("wordy\nwordier\nwordy")
    assert editor.nvim.funcs.pumvisible()
    editor.type("<C-e>")
    editor.wait(lambda: not editor.nvim.funcs.pumvisible(), "the popup menu is closed")
    editor.wait_ghost("k = 1")


def test_another_language_server_completes_in_its_popup_and_ours_only_as_ghost_text(
    neovim_executable: Path, tmp_path: Path
) -> None:
    setup = f"""
    {SCRIPTED}
    vim.api.nvim_create_autocmd('FileType', {{
      pattern = 'python',
      callback = function() vim.lsp.start({{ name = 'words', cmd = server.start_words }}) end,
    }})
    """
    with neovim(neovim_executable, tmp_path, setup) as editor:
        editor.open()
        editor.wait(lambda: editor.clients("{ bufnr = 0 }") == 2, "both servers are attached")
        editor.type("i")
        suggest(editor, "fir", "e = 1")
        editor.type("<C-x><C-o>")
        editor.wait(lambda: editor.text == "first_word", "the other server's word is taken")
        assert editor.ghost == ""


def test_the_server_is_reported_of_inline_completion_so_that_it_offers_no_popup_item(editor: Neovim) -> None:
    assert editor.lua("return server.initialize.capabilities.textDocument.inlineCompletion ~= nil")
