"""What a served kind is, and the registry of all that are served now."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from .errors import Cause, Json
from .store import Collection

WRITABLE = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of `kubectl get`: `cell` computes the value, a `priority` above 0 shows it only with -o wide."""

    name: str
    cell: Callable[[Json], Any]
    type: str = "string"
    format: str = ""
    priority: int = 0
    description: str = ""


def _nothing(_: Json) -> None:
    return None


def _no_causes(_new: Json, _old: Json | None) -> list[Cause]:
    return []


@dataclasses.dataclass(frozen=True)
class Resource:
    """One kind in one version, with everything that differs from plain storage.

    `schema` is looked up late, since the built-in ones cost time to build. `keeps_status` lets a new object bring a
    status (nodes register themselves so). `default` and `prepare` change a fresh object (`prepare` once, at
    creation); `check` gets the new and the old object (None at creation).
    """

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    singular: str = ""
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    verbs: tuple[str, ...] = WRITABLE
    status: bool = False
    keeps_status: bool = False
    custom: bool = False
    generation: bool = False
    graceful: bool = False
    upsert: bool = False
    unconditional_update: bool = True
    returns_deleted: bool = False
    selectable: frozenset[str] = frozenset()
    collection: Collection = ("", "")
    columns: Sequence[Column] = ()
    schema: Callable[[], Json | None] = lambda: None
    default: Callable[[Json], None] = _nothing
    prepare: Callable[[Json], None] = _nothing
    check: Callable[[Json, Json | None], list[Cause]] = _no_causes
    serve: Callable[[Json], Json] | None = None
    accept: Callable[[Json], Json] | None = None

    def __post_init__(self) -> None:
        if not self.singular:
            object.__setattr__(self, "singular", self.kind.lower())
        if self.collection == ("", ""):
            object.__setattr__(self, "collection", (self.group, self.plural))

    @property
    def api_version(self) -> str:
        """What stands in `apiVersion` of its objects."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def path(self) -> str:
        """Where the group and version are served."""
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"

    @property
    def list_kind(self) -> str:
        """The kind of its lists."""
        return f"{self.kind}List"

    def out(self, stored: Json) -> Json:
        """Return a stored object as this version shows it; the stored one stays as it is."""
        if self.serve is not None:
            return self.serve(stored)
        return stored if stored["apiVersion"] == self.api_version else {**stored, "apiVersion": self.api_version}


class Registry:
    """The served kinds by (group, version, plural); custom ones come and go."""

    def __init__(self, builtin: Iterable[Resource]) -> None:
        self._builtin = tuple(builtin)
        self._custom: dict[str, tuple[Resource, ...]] = {}
        self._by_path: dict[tuple[str, str, str], Resource] = {}
        self.revision = 0
        self._index()

    def _index(self) -> None:
        self.revision += 1
        self._by_path = {(one.group, one.version, one.plural): one for one in self}

    def __iter__(self) -> Any:
        """Yield built-in kinds first, then custom ones by the name of their definition."""
        yield from self._builtin
        for name in sorted(self._custom):
            yield from self._custom[name]

    def find(self, group: str, version: str, plural: str) -> Resource | None:
        """Return what is served there, or None."""
        return self._by_path.get((group, version, plural))

    def in_collection(self, collection: Collection) -> Resource | None:
        """Return one of the versions in which a collection is served, the preferred one, or None."""
        return next((one for one in self if one.collection == collection), None)

    def of_kind(self, api_version: str, kind: str) -> Resource | None:
        """Return the kind that an owner reference names, or None."""
        return next((one for one in self if one.kind == kind and one.api_version == api_version), None)

    def install(self, name: str, resources: Iterable[Resource]) -> None:
        """Serve what a definition (by its name) asks for, in place of what it asked for before."""
        self._custom[name] = tuple(resources)
        self._index()

    def uninstall(self, name: str) -> None:
        """Stop serving what a definition installed."""
        if self._custom.pop(name, None) is not None:
            self._index()

    def groups(self) -> dict[str, dict[str, list[Resource]]]:
        """Return group → version → kinds; groups and versions in the order in which clients should prefer them."""
        tree: dict[str, dict[str, list[Resource]]] = {}
        for one in self:
            tree.setdefault(one.group, {}).setdefault(one.version, []).append(one)
        return tree
