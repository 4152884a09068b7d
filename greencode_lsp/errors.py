"""One error class per thing a user can fix. Every message is one sentence that names what to fix."""

from __future__ import annotations


class GreenCodeError(Exception):
    """Base of every error that is shown to the user as one sentence, never as a traceback."""


class ModelNotFoundError(GreenCodeError):
    """The model folder, or one of its files, is missing: fix `greencode.model`."""


class ModelDamagedError(GreenCodeError):
    """A model file is not what its manifest says (SHA-256, shape, format): fetch or export it again."""


class UnsupportedModelError(GreenCodeError):
    """The checkpoint's family or a feature of it is not supported; the message names those that are."""


class HubError(GreenCodeError):
    """A model cannot be fetched: fix its name, the access to it, the network or the disk, as the message says."""


class CacheError(GreenCodeError):
    """The cache folder cannot be used: make it yours and writable, free space, or set GREENCODE_CACHE."""


class DeviceError(GreenCodeError):
    """The device asked for is not usable here: fix `greencode.device`."""


class SettingError(GreenCodeError):
    """A setting is unknown or ill-typed; its default is used instead."""


class PositionError(GreenCodeError):
    """The position lies outside the document, or the file cannot be read as UTF-8 text."""


class DocumentError(GreenCodeError):
    """A document is not open, too long, or its text is not known: open it again, as the message says."""


class LedgerError(GreenCodeError):
    """The energy ledger cannot be read: make it readable, or update greencode-lsp."""


class CorpusError(GreenCodeError):
    """Training data is missing, empty or unreadable."""


class CancelledError(GreenCodeError):
    """A running generation was asked to stop; not shown to the user."""


class EngineError(GreenCodeError):
    """The library that computes refuses the model on this machine: update it, or choose another model."""


class HostError(GreenCodeError):
    """The shared engine cannot be reached or started: the model runs in the editor's own server instead."""


class TeamError(GreenCodeError):
    """A team's engine cannot be run or reached as asked; the message says what to change."""
