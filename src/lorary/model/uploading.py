"""Uploading: a composite's folder goes to a hub, as transformers' `push_to_hub` takes it there."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lorary.bank.files import write_aside
from lorary.errors import LoraryError
from lorary.model.card import CARD, is_own, tagged


@dataclass(frozen=True, kw_only=True)
class Upload:
    """Where a folder goes, in the words of transformers' `push_to_hub`.

    Args:
        repo_id: by default the folder's name.
        private: whether a new repository is.
        revision: branch to write to, made where there is none.
        create_pr: opens a pull request instead of changing the branch.
        tags: are added to our own card.
    """

    repo_id: str | None = None
    token: str | bool | None = None
    commit_message: str | None = None
    commit_description: str | None = None
    private: bool | None = None
    revision: str | None = None
    create_pr: bool = False
    tags: Sequence[str] | None = None

    def send(self, folder: Path) -> str:
        """Uploads a folder; returns the address of the commit. Our card does not take the place of one that a person wrote
        there. Raises LoraryError for a pull request to a branch."""
        from huggingface_hub import HfApi
        from huggingface_hub.errors import RemoteEntryNotFoundError

        if self.create_pr and self.revision is not None:
            raise LoraryError(
                "create_pr and revision are both given, and a pull request is one to the main branch; give one"
            )
        api, own_card = HfApi(token=self.token), (folder / CARD).read_bytes()
        wanted = self.repo_id or folder.resolve().name
        name, ignored = api.create_repo(wanted, private=self.private, exist_ok=True).repo_id, list[str]()
        if self.revision is not None and not self.revision.startswith("refs/pr"):
            api.create_branch(name, branch=self.revision, exist_ok=True)
        if is_own(own_card):
            with suppress(RemoteEntryNotFoundError), TemporaryDirectory() as work:
                stands = api.hf_hub_download(name, CARD, revision=self.revision, local_dir=work)
                if not is_own(Path(stands).read_bytes()):
                    ignored = [CARD]
            if self.tags:
                write_aside(folder / CARD, tagged(own_card, self.tags))
        commit = api.upload_folder(
            repo_id=name,
            folder_path=folder,
            commit_message=self.commit_message or "Upload composite",
            commit_description=self.commit_description,
            revision=self.revision,
            create_pr=self.create_pr,
            ignore_patterns=ignored,
        )
        return str(commit.commit_url)


def upload_of(options: dict[str, Any]) -> Upload:
    """The upload that options name, which it takes out of them."""
    return Upload(**{own.name: options.pop(own.name) for own in fields(Upload) if own.name in options})
