"""Create, read, update and patch: the rules that hold for every kind, over the store.

Order of a write: decode (unknown fields), default, check, then commit, or return the result uncommitted for a dry run.
A write that changes nothing is no write: no revision, no event.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from . import apply, errors, meta
from . import schema as schemas
from .errors import Cause, Json
from .resources import Registry, Resource
from .selectors import Predicate
from .store import Key, Store

NAMESPACES = ("", "namespaces")


@dataclasses.dataclass
class Options:
    """What a writer asks for; `warnings` is filled for the answer's headers, `accounts` by an apply."""

    dry_run: bool = False
    field_validation: str = "Warn"
    field_manager: str = ""
    force: bool = False
    warnings: list[str] = dataclasses.field(default_factory=list)
    accounts: apply.Accounts | None = None


class Rest:
    """The API below HTTP: methods take and return objects in the version of the given resource."""

    def __init__(self, registry: Registry, store: Store) -> None:
        self.registry = registry
        self.store = store

    def get(self, resource: Resource, namespace: str, name: str) -> Json:
        """Return an object; 404 when there is none."""
        return resource.out(self.stored(resource, namespace, name))

    def stored(self, resource: Resource, namespace: str, name: str) -> Json:
        """Return an object as it is stored; 404 when there is none."""
        found = self.store.get(resource.collection, (namespace, name))
        if found is None:
            raise errors.not_found(resource.plural, resource.group, name)
        return found

    def list(self, resource: Resource, namespace: str, matches: Predicate) -> list[Json]:
        """Return the matching objects of a namespace (empty: of all) by namespace and name."""
        return [resource.out(obj) for obj in self.store.objects(resource.collection, namespace) if matches(obj)]

    def create(self, resource: Resource, namespace: str, body: Json, options: Options) -> Json:
        """Create an object from what a client sent; the body is taken over and changed."""
        self._identify(resource, namespace, body)
        if body["metadata"].get("resourceVersion"):
            raise errors.bad_request("resourceVersion should not be set on objects to be created")
        self._decode(resource, body, options)
        meta.fresh(body)
        obj = resource.accept(body) if resource.accept else body
        if options.accounts is not None:
            apply.write_accounts(obj, options.accounts, None)
        if resource.status and not resource.keeps_status:
            obj.pop("status", None)
        resource.default(obj)
        resource.prepare(obj)
        if resource.generation:
            obj["metadata"]["generation"] = 1
        self._check(resource, obj, None)
        if resource.namespaced:
            self._admit(resource, namespace, obj)
        name = obj["metadata"]["name"]
        if self.store.get(resource.collection, (namespace, name)) is not None:
            raise errors.already_exists(resource.plural, resource.group, name)
        return resource.out(obj if options.dry_run else self.store.write(resource.collection, obj))

    def _admit(self, resource: Resource, namespace: str, obj: Json) -> None:
        found = self.store.get(NAMESPACES, ("", namespace))
        if found is None:
            raise errors.not_found("namespaces", "", namespace)
        if found["metadata"].get("deletionTimestamp"):
            why = f"unable to create new content in namespace {namespace} because it is being terminated"
            raise errors.forbidden(resource.plural, resource.group, obj["metadata"]["name"], why)

    def update(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        change: Callable[[Json], Json],
        options: Options,
        *,
        subresource: str = "",
    ) -> Json:
        """Replace an object by what `change` makes of a copy; with subresource "status" only the status counts."""
        old = self.stored(resource, namespace, name)
        new = change(meta.touched(resource.out(old)))
        self._identify(resource, namespace, new)
        self._match(resource, name, new, old)
        self._decode(resource, new, options)
        new = resource.accept(new) if resource.accept else new
        new = self._combine(resource, new, old, subresource)
        resource.default(new)
        self._check(resource, new, old)
        if options.accounts is not None:
            apply.write_accounts(new, options.accounts, old)
        else:
            manager = apply.Manager(options.field_manager, "Update", subresource)
            apply.after_update(old, new, resource.schema(), manager)
        if _content(new, resource) != _content(old, resource) and resource.generation:
            new["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1
        return resource.out(self._commit(resource, new, old, options))

    def apply(
        self, resource: Resource, key: Key, body: Json, options: Options, *, subresource: str = ""
    ) -> tuple[Json, bool]:
        """Create an object or change what its manager manages of it; return it, and whether it was created."""
        if not options.field_manager:
            message = "Required value: is required for apply patch"
            raise errors.invalid(
                "PatchOptions", "meta.k8s.io", "", [Cause("FieldValueRequired", message, "fieldManager")]
            )
        namespace, name = key
        body.setdefault("metadata", {}).setdefault("name", name)
        self._identify(resource, namespace, body)
        if body["metadata"].get("managedFields"):
            raise errors.bad_request("metadata.managedFields must be nil")
        manager = apply.Manager(options.field_manager, "Apply", subresource)

        def change(old: Json) -> Json:
            self._decode(resource, body, options)
            new: Json
            new, options.accounts = apply.merged(old, body, resource.schema(), manager, force=options.force)
            return new

        if self.store.get(resource.collection, key) is None and not subresource:
            return self.create(resource, namespace, change({}), options), True
        return self.update(resource, namespace, name, change, options, subresource=subresource), False

    def _match(self, resource: Resource, name: str, new: Json, old: Json) -> None:
        metadata, current = new["metadata"], old["metadata"]
        if metadata.get("name") != name:
            given = metadata.get("name", "")
            raise errors.bad_request(f"the name of the object ({given}) does not match the name on the URL ({name})")
        if metadata.get("uid") not in {None, "", current["uid"]}:
            why = f"Precondition failed: UID in precondition: {metadata['uid']}, UID in object meta: {current['uid']}"
            raise errors.conflict(resource.plural, resource.group, name, why)
        if not metadata.get("resourceVersion"):
            if not resource.unconditional_update:
                cause = Cause(
                    "FieldValueInvalid", "Invalid value: 0: must be specified for an update", "metadata.resourceVersion"
                )
                raise errors.invalid(resource.kind, resource.group, name, [cause])
        elif metadata["resourceVersion"] != current["resourceVersion"]:
            raise errors.conflict(resource.plural, resource.group, name)

    def _combine(self, resource: Resource, new: Json, old: Json, subresource: str) -> Json:
        """Return the new object with what this endpoint may not change taken from the old one."""
        if subresource == "status":
            if resource.custom:
                status, new = new.get("status"), meta.touched(old)
                new.pop("status", None)
                if status is not None:
                    new["status"] = status
            else:
                new = {
                    **meta.touched({**old, "metadata": {}}),
                    "metadata": new["metadata"],
                    "status": new.get("status", {}),
                }
        elif resource.status:
            new.pop("status", None)
            if "status" in old:
                new["status"] = meta.touched(old["status"])
        meta.keep(new, old)
        return new

    def _commit(self, resource: Resource, new: Json, old: Json, options: Options) -> Json:
        new["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"]
        ends = is_released(resource, new)
        if options.dry_run or (new == old and not ends):
            return new if options.dry_run else old
        if ends:
            return self.store.remove(resource.collection, new)
        return self.store.write(resource.collection, new)

    def _identify(self, resource: Resource, namespace: str, body: Json) -> None:
        """Check what the object says it is against the address it was sent to."""
        for field, wanted in (("apiVersion", resource.api_version), ("kind", resource.kind)):
            if not body.get(field) and not resource.custom:
                body[field] = wanted
            if body.get(field) != wanted:
                given = f"{body.get('apiVersion', '')}, Kind={body.get('kind', '')}"
                raise errors.bad_request(
                    f"the object provided is unrecognized: {given} does not match the expected"
                    f" {resource.api_version}, Kind={resource.kind}"
                )
        metadata = body.get("metadata")
        if metadata is None:
            metadata = body["metadata"] = {}
        if not isinstance(metadata, dict):
            raise errors.bad_request("json: cannot unmarshal metadata into an object")
        given = metadata.get("namespace") or namespace
        if given != namespace:
            raise errors.bad_request(
                "the namespace of the provided object does not match the namespace sent on the request"
            )
        if namespace:
            metadata["namespace"] = namespace
        else:
            metadata.pop("namespace", None)

    def _decode(self, resource: Resource, body: Json, options: Options) -> None:
        """Drop unknown fields, complaining as the client asked; refuse what does not fit the types."""
        schemas.drop_nulls(body if not resource.custom else body["metadata"])
        body["metadata"].pop("managedFields", None)
        schema = resource.schema()
        if schema is None:
            return
        unknown = sorted(schemas.prune(schema, body))
        if unknown and options.field_validation == "Strict":
            listed = ", ".join(f'unknown field "{path}"' for path in unknown)
            what = f'{resource.kind} in version "{resource.version}" cannot be handled as a {resource.kind}'
            raise errors.bad_request(f"{what}: strict decoding error: {listed}")
        if options.field_validation == "Warn":
            options.warnings += [f'unknown field "{path}"' for path in unknown]
        decoded = body if not resource.custom else {"metadata": body["metadata"]}
        for problem in schemas.mismatches(schema, decoded):
            what = f'{resource.kind} in version "{resource.version}" cannot be handled as a {resource.kind}'
            raise errors.bad_request(f"{what}: {problem}")

    def _check(self, resource: Resource, new: Json, old: Json | None) -> None:
        causes = meta.check(new, path_segment_name=resource.group == "rbac.authorization.k8s.io")
        if old is not None and old["metadata"].get("deletionTimestamp"):
            added = set(new["metadata"].get("finalizers") or []) - set(old["metadata"].get("finalizers") or [])
            if added:
                why = "no new finalizers can be added if the object is being deleted, found new finalizers"
                message = f"Forbidden: {why} {sorted(added)}"
                causes.append(Cause("FieldValueForbidden", message, "metadata.finalizers"))
        causes += resource.check(new, old)
        if causes:
            raise errors.invalid(resource.kind, resource.group, new["metadata"].get("name", ""), causes)


def is_released(resource: Resource, obj: Json) -> bool:
    """Tell whether a deleting object has nothing left to wait for."""
    metadata = obj["metadata"]
    if not metadata.get("deletionTimestamp") or metadata.get("finalizers"):
        return False
    if resource.collection == NAMESPACES:
        return not obj.get("spec", {}).get("finalizers")
    return not resource.graceful or metadata.get("deletionGracePeriodSeconds", 0) == 0


def _content(obj: Json, resource: Resource) -> Json:
    """Return the part of an object whose change makes a new generation."""
    outside = {"metadata", "apiVersion", "kind"} | ({"status"} if resource.status else set())
    return {key: value for key, value in obj.items() if key not in outside}
