"""The file systems of one pod, laid out as the kubelet does, and `payproxy` in it as the pod's user."""

import asyncio
import os
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.deploy.support import ROOT, container, only, pod
from tests.journeys.process import Instance

USER = 10001


class Pod:
    """The mounts of the chart by path, in the folder *root*; *secrets* are the Secrets' keys and values by name."""

    def __init__(self, root: Path, manifests: list[dict[str, Any]], secrets: Mapping[str, Mapping[str, str]]) -> None:
        self.root = root
        self.manifests = manifests
        self._secrets = secrets
        volumes = {one["name"]: one for one in pod(manifests)["volumes"]}
        for mount in container(manifests)["volumeMounts"]:
            place = root / mount["mountPath"].removeprefix("/")
            place.mkdir(parents=True)
            if "projected" in volumes.get(mount["name"], {}):
                self._project(place, volumes[mount["name"]]["projected"])
            else:
                os.chown(place, 0, USER)
                place.chmod(0o2775)  # as the kubelet leaves a new volume with an fsGroup

    def _project(self, place: Path, volume: dict[str, Any]) -> None:
        """Write a projected volume: `..data` names the folder that is valid, so that all files change at once."""
        inner = place / "..2026_11_28"
        inner.mkdir()
        (place / "..data").symlink_to(inner.name)
        for source in volume["sources"]:
            ((kind, reference),) = source.items()
            content = self._content(kind, reference["name"])
            for item in reference.get("items") or [{"key": key, "path": key} for key in content]:
                file = inner / item["path"]
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(content[item["key"]])
                os.chown(file, 0, USER)
                file.chmod(volume["defaultMode"])
                top = Path(item["path"]).parts[0]
                if not (place / top).is_symlink():
                    (place / top).symlink_to(Path("..data") / top)

    def _content(self, kind: str, name: str) -> Mapping[str, str]:
        if kind == "secret":
            return self._secrets[name]
        data: dict[str, str] = only(self.manifests, "ConfigMap", name)["data"]
        return data

    @property
    def environment(self) -> dict[str, str]:
        """Return the container's environment, with this machine's paths."""
        variables = {one["name"]: one["value"] for one in container(self.manifests).get("env", [])}
        return {
            "PATH": os.environ["PATH"],
            "PAYPROXY_CONFIG": str(self.root / "etc/payproxy/payproxy.toml"),
            **{name: f"{self.root}{value}" if value.startswith("/") else value for name, value in variables.items()},
        }

    @property
    def data(self) -> Path:
        """Return the data directory."""
        return Path(self.environment["STATE_DIRECTORY"])

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run `payproxy` as the pod's user."""
        return subprocess.run(
            as_user(sys.executable, "-m", "proxy", *arguments),
            cwd=ROOT,
            env={**self.environment, **variables},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Instance]:
        """Run the container's arguments for the block, on free ports of loopback; in the end it gets SIGTERM."""
        outputs = [self.root / "stdout", self.root / "stderr"]
        ports = {"PAYPROXY_SERVER__LISTEN": "127.0.0.1:0", "PAYPROXY_ADMIN__LISTEN": "127.0.0.1:0"}
        with outputs[0].open("wb") as stdout, outputs[1].open("wb") as stderr:
            process = await asyncio.create_subprocess_exec(
                *as_user(sys.executable, "-m", "proxy", *container(self.manifests)["args"]),
                cwd=ROOT,
                env={**self.environment, **ports},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
            )
        instance = Instance(process, *outputs)
        try:
            await instance.started(ready=True)
            yield instance
        finally:
            await instance.end()


def as_user(*command: str) -> list[str]:
    """Return *command* run as the pod's user, who is in no other group; the process has the same id."""
    user = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", *command]
    hidden = _hidden([Path(sys.base_prefix), ROOT])
    if not hidden:
        return user
    # Python, or this repository, is in a folder that is closed to others, like /root: for this process, and nobody
    # else, an open folder with nothing but them is mounted over it.
    (closed,) = {folder for _, folder in hidden}
    lines = ["set -e", "stage=/dev/shm", "mount --make-rprivate /", "mount -t tmpfs none $stage"]
    for number, (path, _) in enumerate(hidden):
        lines += [f"mkdir $stage/{number}", f"mount --rbind {shlex.quote(str(path))} $stage/{number}"]
    lines += [f"mount -t tmpfs -o mode=755 none {shlex.quote(str(closed))}"]
    for number, (path, _) in enumerate(hidden):
        lines += [f"mkdir -p {shlex.quote(str(path))}", f"mount --move $stage/{number} {shlex.quote(str(path))}"]
    lines += ["umount $stage", 'exec "$@"']
    return ["unshare", "--mount", "sh", "-c", "\n".join(lines), "sh", *user]


def _hidden(paths: list[Path]) -> list[tuple[Path, Path]]:
    """Return the paths that others can't reach, each with the topmost folder that is closed to them."""
    found = []
    for path in paths:
        closed = next((one for one in reversed([path, *path.parents]) if not one.stat().st_mode & 0o001), None)
        if closed is not None:
            found.append((path, closed))
    return found
