"""The Hugging Face hub as a `Hub`. The only module that imports `huggingface_hub`; nothing that serves imports it.

`http_get` is used, not `snapshot_download`: the latter restarts an interrupted file in the next process.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from greencode_lsp import __version__
from greencode_lsp.errors import HubError
from greencode_lsp.files import open_to_append
from greencode_lsp.models.hub import HubFile, Repository

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # read when the library is imported: only the name is sent

from huggingface_hub import HfApi, hf_hub_url
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import http_get
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # documented, not re-exported
from huggingface_hub.utils.logging import set_verbosity_error

LIBRARY = "greencode-lsp"


class HuggingFaceHub:
    """The hub at `HF_ENDPOINT`, by default huggingface.co; a token is read from where `hf auth login` puts it."""

    def __init__(self) -> None:
        set_verbosity_error()  # type: ignore[no-untyped-call]  # a retry is no news; progress bars stay
        self._api = HfApi(library_name=LIBRARY, library_version=__version__)

    def look_up(self, name: str, revision: str | None) -> Repository:
        """See `Hub`."""
        with _one_sentence(name):
            info = self._api.model_info(name, revision=revision, files_metadata=True)
        files = (
            HubFile(file.rfilename, file.size or 0, file.lfs.sha256 if file.lfs else None, file.blob_id)
            for file in info.siblings or ()
        )
        return Repository(name, info.sha or "", tuple(files))

    def fetch(self, repository: Repository, file: HubFile, part: Path) -> None:
        """See `Hub`. A lost connection is tried again five times; a bar on the terminal shows how far it is."""
        url = hf_hub_url(repository.name, file.name, revision=repository.commit)
        headers = {**build_hf_headers(library_name=LIBRARY, library_version=__version__), "Accept-Encoding": "identity"}
        with open_to_append(part) as stream, _one_sentence(repository.name):
            stream.seek(0, os.SEEK_END)
            if stream.tell() > file.size:
                stream.truncate(0)
                stream.seek(0)
            http_get(
                url,
                cast("BinaryIO", BoundedStream(stream, file)),
                resume_size=stream.tell(),
                headers=headers,
                expected_size=file.size,
                displayed_filename=file.name,
            )


class BoundedStream:
    """A file to be written that takes no more bytes than were listed, whatever is sent."""

    def __init__(self, stream: BinaryIO, file: HubFile) -> None:
        self._stream, self._file = stream, file

    def write(self, data: bytes) -> int:
        """Append; raises HubError, and keeps nothing of the file, where it becomes too long."""
        if self._stream.tell() + len(data) > self._file.size:
            self._stream.truncate(0)
            raise HubError(f"The hub sent more of {self._file.name} than it lists; pull the model again.")
        return self._stream.write(data)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever else a stream has
        return getattr(self._stream, name)


@contextmanager
def _one_sentence(name: str) -> Iterator[None]:
    """Turn whatever the client raises into a HubError; a full disk is passed on."""
    try:
        yield
    except HubError:
        raise
    except Exception as error:  # the client raises its HTTP library's own errors besides these
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise HubError(_sentence(name, error)) from error


def _sentence(name: str, error: Exception) -> str:
    again = f"`greencode-lsp models pull {name}` resumes where it ended"
    match error:
        case GatedRepoError():
            return f"{name} is gated: ask for access on its page, then `hf auth login` or set HF_TOKEN."
        case RepositoryNotFoundError():
            return f"The hub has no model {name}, or it is private; check the name, or `hf auth login`."
        case RevisionNotFoundError():
            return f"The hub has no such revision of {name}; leave --revision out for the newest."
        case OfflineModeIsEnabled():
            return f"{name} cannot be fetched while HF_HUB_OFFLINE is set; unset it."
        case HFValidationError():
            return f"{name!r} is no name of a hub model; write it as OWNER/NAME."
        case HfHubHTTPError():
            status = error.response.status_code
            return f"The hub answered {status} for {name}; try again later: {again}."
    return f"The hub cannot be reached or was lost ({type(error).__name__}); fix the network: {again}."
