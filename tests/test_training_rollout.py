"""Rollouts are what the engine says and does; the environment charges for them what the engine runs."""

from __future__ import annotations

import dataclasses
import errno
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from greencode_lsp.engine.engine import Engine
from greencode_lsp.engine.load import load_engine
from greencode_lsp.errors import CorpusError
from greencode_lsp.models.manifest import Manifest, write_manifest
from greencode_lsp.records import DecodeConfig, FixedControl
from tests import reference
from tests.training_fakes import Scripted, joined, rollouts
from training.data.cursors import SourcePosition
from training.exits import experience
from training.exits.environment import ParallelEpisodes
from training.exits.rewards import Reward
from training.exits.rollout import Prompt, Rollouts, Setup, Writer, follow, roll
from training.exits.teacher_forcing import TeacherForcing
from training.preset import RolloutOptions

EXITS = reference.EXITS
NEW_TOKENS = 8
STOP = 151
TEXT = [9, STOP, *range(20, 41)]
"""A special token, then 21 of reference text, of which all but the first have one before them."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = reference.save(reference.llama(), tmp_path_factory.mktemp("llama"))
    curve = {1: 1.0, 2: 1.3, 4: 1.7, 8: 2.9}
    write_manifest(where, Manifest("random", "llama", EXITS, cost_curve=curve, head_layers=1.5))
    return where


@pytest.fixture(scope="module")
def engine(folder: Path) -> Engine:
    return load_engine(folder, "cpu")


@pytest.fixture(scope="module")
def setup(folder: Path, engine: Engine) -> Setup:
    return Setup(engine, TeacherForcing(engine.model, EXITS), NEW_TOKENS, frozenset({STOP}))


def test_rollouts_of_the_full_model_are_its_own_tokens(setup: Setup) -> None:
    (stored,) = roll(setup, [Prompt(TEXT)])
    full = FixedControl(DecodeConfig(batch_invariant=True))
    emitted = [step.token_id for step in setup.engine.generate(TEXT, full, max_new_tokens=NEW_TOKENS)]
    assert stored.labels.tolist() == emitted


def test_rollouts_along_early_choices_keep_the_full_models_token_as_label(setup: Setup) -> None:
    config = DecodeConfig("fixed", EXITS[0] - 0.5)
    (stored,) = roll(setup, [Prompt(TEXT)], config)
    emitted = [s.token_id for s in setup.engine.generate(TEXT, FixedControl(config), max_new_tokens=NEW_TOKENS)]
    assert stored.choices[:, 0].tolist() == emitted
    assert stored.labels.tolist() == setup.engine.full_depth_argmax(TEXT, emitted, FixedControl())


def test_the_authors_text_is_stored_in_completions_of_its_own(setup: Setup) -> None:
    (stored,) = roll(setup, [Prompt(TEXT)], with_reference=True)
    assert stored.position.tolist() == [*range(8), *range(8), *range(4), *range(8)]
    assert stored.completion.tolist() == [0] * 8 + [1] * 8 + [2] * 4 + [3] * 8


def test_following_the_author_says_what_completing_after_him_says_of_his_text(setup: Setup) -> None:
    (both,) = roll(setup, [Prompt(TEXT)], with_reference=True)
    (alone,) = follow(setup, [Prompt(TEXT)])
    assert np.array_equal(alone.choices, both.choices[:20])
    assert alone.position.tolist() == both.position[:20].tolist()


def test_a_prompt_without_text_has_nothing_to_follow(setup: Setup) -> None:
    assert list(follow(setup, [Prompt([9, STOP])])) == []


def test_every_token_knows_its_language(setup: Setup) -> None:
    stored = joined(follow(setup, [Prompt(TEXT, "java"), Prompt(TEXT)]))
    assert stored.language.tolist() == [1] * 20 + [0] * 20


@pytest.mark.parametrize("seed", range(6))
def test_the_environment_charges_and_shows_what_the_engine_runs(setup: Setup, seed: int) -> None:
    exits_at = np.random.default_rng(seed).integers(len(EXITS), size=NEW_TOKENS).tolist()
    (stored,), scripted, engine = roll(setup, [Prompt(TEXT)]), Scripted(exits_at), setup.engine
    labels = stored.labels.tolist()
    engine.policies["scripted"] = scripted
    control = FixedControl(DecodeConfig("scripted", 0.0))
    for _ in engine.generate(TEXT, control, max_new_tokens=8, constraint=lambda so_far: [labels[len(so_far)]]):
        pass
    episodes = ParallelEpisodes(stored, engine.manifest, 1, prompt_tokens=1)  # the rest is cached
    charged, shown = 0.0, []
    for exit_at in exits_at:
        for action in [False] * exit_at + [True] * (exit_at < len(EXITS) - 1):
            shown.append(episodes.observe()[0])
            charged += float(episodes.take(np.array([action])).layer_equivalents[0])
    assert np.allclose(shown, scripted.seen, atol=0.01)  # states are stored in half precision
    assert charged == pytest.approx(engine.work.layer_equivalents)


def test_an_episodes_reward_is_its_right_tokens_less_its_weighted_cost(setup: Setup) -> None:
    (stored,) = roll(setup, [Prompt(TEXT)])
    episodes, manifest = ParallelEpisodes(stored, setup.engine.manifest, 1), setup.engine.manifest
    rewards = [float(episodes.step(np.array([0]), Reward(), 0.5)[0][0]) for _ in range(2 * NEW_TOKENS)]
    full = manifest.exits[-1] * (NEW_TOKENS - 1) + manifest.head_layers * NEW_TOKENS
    assert sum(rewards) == pytest.approx(NEW_TOKENS - 0.5 * full / (manifest.exits[-1] + manifest.head_layers))


def test_what_is_written_part_by_part_reads_back_as_one(tmp_path: Path) -> None:
    parts = [rollouts([[(True, False)] * 3]), rollouts([[(False, True)] * 2, [(True, True)]])]
    with Writer(tmp_path / "stored") as writer:
        for part in parts:
            writer.append(part)
    stored, whole = Rollouts.load(tmp_path / "stored"), joined(parts)
    for item in dataclasses.fields(Rollouts):
        assert isinstance(getattr(stored, item.name), np.memmap)
        assert np.array_equal(getattr(stored, item.name), getattr(whole, item.name))


def test_a_copy_in_pieces_is_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.exits.rollout.COPIED_TOKENS", 2)
    stored = rollouts([[(True, False)] * 3, [(False, False)] * 2])
    with Writer(tmp_path / "copy") as writer:
        writer.copy(stored)
    assert Rollouts.load(tmp_path / "copy").completion.tolist() == [0, 0, 0, 1, 1]


def test_an_interrupted_write_leaves_the_earlier_rollouts_as_they_were(tmp_path: Path) -> None:
    with Writer(tmp_path / "stored") as writer:
        writer.append(rollouts([[(True, True)] * 3]))
    with pytest.raises(KeyboardInterrupt), Writer(tmp_path / "stored") as writer:
        writer.append(rollouts([[(False, False)] * 9]))
        raise KeyboardInterrupt
    assert len(Rollouts.load(tmp_path / "stored")) == 3


def test_rollouts_never_finished_are_none(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), Writer(tmp_path / "stored") as writer:
        writer.append(rollouts([[(True, True)]]))
        raise KeyboardInterrupt
    with pytest.raises(CorpusError, match="run `python -m training rollout` first"):
        Rollouts.load(tmp_path / "stored")


def test_rollouts_of_nothing_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no tokens"), Writer(tmp_path / "stored"):
        pass


def test_a_disk_that_fills_up_is_one_sentence(tmp_path: Path) -> None:
    class Full:
        def write(self, data: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(CorpusError, match="No space left on device"), Writer(tmp_path / "stored") as writer:
        writer.append(rollouts([[(True, True)]]))
        writer._files["labels"] = Full()  # type: ignore[assignment]  # all that is used of a file
        writer.append(rollouts([[(True, True)]]))


def test_a_disk_too_small_is_told_before_the_first_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")  # as shutil has it
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(0, 0, 1_000_000))
    options = RolloutOptions(prompts=100, new_tokens=16, fresh_share=0.3)
    with pytest.raises(CorpusError, match=r"up to 0\.1 GB"):
        experience.check_disk(tmp_path, options, prompt_tokens=300, token_bytes=2000)


def test_no_file_is_both_learnt_from_and_judged_by() -> None:
    places = [SourcePosition(f"file {i % 20}", 0) for i in range(100)]
    learn, check = experience.keep_back(places)
    assert len(learn) + len(check) == 100
    assert len({place.text for place in check}) == 3
    assert not {place.text for place in learn} & {place.text for place in check}


def test_one_file_cannot_be_kept_back_from_itself() -> None:
    with pytest.raises(CorpusError, match="name more sources"):
        experience.keep_back([SourcePosition("only", 0), SourcePosition("only", 2)])
