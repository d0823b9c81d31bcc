"""A real cluster on loopback, with TLS: scheduler, workers with nannies, dispatchers as processes.

    with Cluster.started(folder, settings, workers=2) as cluster:
        cluster.dispatch_once()

Every process runs in a session of its own, with its log in ``<folder>/<name>.log``. A process that
ends without being told to is started again, as systemd would, unless ``keep=False``. Programs read
``cluster.config`` anew for each task, so that :meth:`Cluster.use` moves a running cluster to
another database. Kill what you like by ``cluster["worker-1"].kill()`` (nanny and all),
``cluster.worker_pids("worker-1")`` (the nanny's children), or ``.signal(SIGSTOP)``.
"""

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import yaml

from cbm_core.settings import EngineSettings, Settings, load
from tests.postgis import free_port

ROOT = Path(__file__).parents[1]
PATIENCE = 60.0


def certificates(folder: Path, names: str = "IP:127.0.0.1") -> Path:
    """Make a CA and one certificate of it; ca.pem, host.pem and host.key lie in the folder.

    ``names`` are what the certificate is good for, as openssl's subjectAltName.
    """
    folder.mkdir(parents=True)

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl("req", "-x509", *key, "-days", "9", "-subj", "/CN=CA", "-keyout", "ca.key",
            "-out", "ca.pem")  # fmt: skip
    openssl("req", *key, "-subj", "/CN=host", "-addext", f"subjectAltName={names}",
            "-keyout", "host.key", "-out", "host.csr")  # fmt: skip
    openssl("x509", "-req", "-in", "host.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
            "-CAcreateserial", "-days", "9", "-copy_extensions", "copy",
            "-out", "host.pem")  # fmt: skip
    return folder


def dask_config(pki: Path) -> dict:
    """What an installation's dask.yaml says."""
    pair = {"cert": str(pki / "host.pem"), "key": str(pki / "host.key")}
    tls = {"ca-file": str(pki / "ca.pem"), "scheduler": pair, "worker": pair, "client": pair}
    return {
        "distributed": {
            "comm": {"require-encryption": True, "tls": tls},
            "scheduler": {
                "worker-saturation": 1.0,
                "worker-ttl": "2 minutes",
                "active-memory-manager": {"start": False},
            },
            "worker": {
                "preload": ["cbm_extract.engine.cluster.preload"],
                "profile": {"enabled": False},
                "memory": {"target": False, "spill": False, "pause": False, "terminate": 0.95},
            },
        }
    }


def write_config(path: Path, settings: Settings) -> None:
    """Write a settings file, in one go: programs may be reading the one before."""
    sections = {
        "database": settings.database,
        "storage": asdict(settings.storage),
        "engine": asdict(settings.engine),
    }
    lines = []
    for name, values in sections.items():
        # Texts, numbers, true and false look the same in JSON and TOML.
        given = [f"{key} = {json.dumps(one)}" for key, one in values.items() if one is not None]
        lines += [f"[{name}]", *given]
    new = path.with_suffix(".new")
    new.write_text("\n".join(lines) + "\n")
    new.replace(path)


@dataclass
class Process:
    """A program of the cluster; ``keep`` starts it again when it ends by itself or is killed."""

    name: str
    command: list[str]
    environment: dict[str, str]
    log: Path
    keep: bool = True
    starts: int = 0
    _popen: subprocess.Popen | None = None
    _told: bool = True

    def start(self) -> "Process":
        self.starts += 1
        with self.log.open("ab") as log:
            self._popen = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT,
                env={**os.environ, **self.environment}, start_new_session=True,
            )  # fmt: skip
        self._told = False
        return self

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def running(self) -> bool:
        return self._popen is not None and self._popen.poll() is None

    def members(self) -> list[int]:
        """Itself and all it has started."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(ProcessLookupError):
                if os.getpgid(int(folder.name)) == self.pid:
                    found.append(int(folder.name))
        return found

    def signal(self, number: int) -> None:
        """Send a signal to it and all it has started."""
        if self._popen is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._popen.pid, number)

    def kill(self) -> None:
        """Kill it with all it has started; it comes back where ``keep`` says so."""
        popen = self._popen  # the one that comes back is another
        self.signal(signal.SIGKILL)
        popen.wait()

    def stop(self, patience: float = PATIENCE) -> int:
        """Tell it to end, and return its exit code."""
        self._told = True
        if self.running:
            self._popen.terminate()
        return self.wait(patience)

    def wait(self, patience: float = PATIENCE) -> int:
        """Wait for its end; what then is left of it is killed."""
        try:
            return self._popen.wait(patience)
        finally:
            self._told = True
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGKILL)
            self._popen.wait()

    def revive(self) -> None:
        if self.keep and not self._told and not self.running:
            self.start()

    def text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""


@dataclass
class Cluster:
    """The processes by name (``scheduler``, ``worker-1``, ``dispatcher-1``, ...)."""

    folder: Path
    settings: Settings
    threads: int = 1
    processes: dict[str, Process] = field(default_factory=dict)

    @classmethod
    @contextmanager
    def started(
        cls, folder: Path, settings: Settings, workers: int = 2, **given
    ) -> Iterator["Cluster"]:
        """Start a scheduler and workers, wait for them, and end whatever runs at the end."""
        cluster = cls(folder, settings, **given)
        cluster._prepare()
        over = threading.Event()
        keeper = threading.Thread(target=cluster._keep, args=(over,))
        try:
            cluster.start_scheduler()
            for number in range(workers):
                cluster.start_worker(f"worker-{number + 1}")
            keeper.start()
            cluster.wait_for_slots(workers)
            yield cluster
        except BaseException:
            print(cluster.logs())
            raise
        finally:
            over.set()
            keeper.join()
            for process in cluster.processes.values():
                process._told = True
                process.signal(signal.SIGCONT)
                process.signal(signal.SIGKILL)
            for process in cluster.processes.values():
                process._popen.wait()

    def __getitem__(self, name: str) -> Process:
        return self.processes[name]

    @property
    def config(self) -> Path:
        """The settings file of all programs."""
        return self.folder / "cbm.toml"

    @property
    def engine(self) -> EngineSettings:
        """How a client reaches the scheduler."""
        return load(self.config).engine

    def _prepare(self) -> None:
        self.pki = certificates(self.folder / "pki")
        self.port = free_port()
        (self.folder / "dask.yaml").write_text(yaml.safe_dump(dask_config(self.pki)))
        self.use(self.settings)

    def use(self, settings: Settings) -> None:
        """Let all programs use another database from their next task on."""
        self.settings = settings
        engine = EngineSettings(
            threads=self.threads,
            scheduler=f"tls://127.0.0.1:{self.port}",
            tls_ca_file=str(self.pki / "ca.pem"),
            tls_cert_file=str(self.pki / "host.pem"),
            tls_key_file=str(self.pki / "host.key"),
        )
        write_config(self.config, replace(settings, engine=engine))

    def start(self, name: str, *words: str, keep: bool = True) -> Process:
        """Start a Python program: module and arguments."""
        environment = {
            "CBM_CONFIG": str(self.config),
            "DASK_CONFIG": str(self.folder / "dask.yaml"),
            "PYTHONPATH": str(ROOT),
        }
        command = [sys.executable, "-m", *words]
        log = self.folder / f"{name}.log"
        log.unlink(missing_ok=True)
        self.processes[name] = Process(name, command, environment, log, keep)
        return self.processes[name].start()

    def start_scheduler(self) -> Process:
        return self.start(
            "scheduler", "dask", "scheduler", "--host", "127.0.0.1", "--port", str(self.port),
            "--protocol", "tls", "--no-dashboard", "--dashboard-address", "127.0.0.1:0",
        )  # fmt: skip

    def start_worker(
        self,
        name: str,
        processes: int = 1,
        memory: str = "2GB",
        *,
        more: Sequence[str] = (),
        keep: bool = True,
    ) -> Process:
        """Start a worker host's service: nannies with a worker process of one slot each."""
        return self.start(
            name, "dask", "worker", f"tls://127.0.0.1:{self.port}", "--name", name,
            "--nworkers", str(processes), "--nthreads", "1", "--memory-limit", memory,
            "--host", "127.0.0.1", "--no-dashboard", "--dashboard-address", "127.0.0.1:0",
            "--local-directory", str(self.folder / "scratch"), *more, keep=keep,
        )  # fmt: skip

    def start_dispatcher(self, name: str, *words: str, keep: bool = True) -> Process:
        return self.start(
            name, "cbm_extract.cli", "dispatch", "--poll-seconds", "0.2", *words, keep=keep
        )

    def dispatch_once(self, *words: str, patience: float = 3 * PATIENCE) -> str:
        """Dispatch until nothing is open, and return what was said."""
        process = self.start_dispatcher("dispatcher", "--once", *words, keep=False)
        code = process.wait(patience)
        assert code == 0, self.logs()
        return process.text()

    def worker_pids(self, name: str) -> list[int]:
        """The worker processes of a service's nannies."""
        found = []
        for pid in self[name].members():
            # One that ends between the opening and the reading of its file says ESRCH.
            with suppress(FileNotFoundError, ProcessLookupError):
                if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(pid)
        return found

    def memory_mb(self, name: str) -> float:
        """Resident memory of a service's largest worker process, in MB (10^6 bytes)."""
        pages = [
            int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self.worker_pids(name)
        ]
        return max(pages, default=0) * resource.getpagesize() / 1e6

    def slots(self) -> int:
        """Threads of workers known to the scheduler; 0 where there is none."""
        from cbm_core.errors import CbmError
        from cbm_extract.engine.cluster.client import connect

        try:
            client = connect(self.engine, 5.0)
        except CbmError:
            return 0
        try:
            return sum(client.nthreads().values())
        finally:
            client.close(timeout=5)

    def wait_for_slots(self, number: int) -> None:
        self.wait_until(lambda: self.slots() == number, f"{number} slots", every=0.3)

    def wait_until(
        self, holds: Callable[[], bool], what: str, patience: float = PATIENCE, every: float = 0.05
    ) -> None:
        end = time.monotonic() + patience
        while not holds():
            assert time.monotonic() < end, f"not within {patience:g} s: {what}\n{self.logs()}"
            time.sleep(every)

    def logs(self) -> str:
        return "\n".join(
            f"--- {name}\n{process.text()[-3000:]}" for name, process in self.processes.items()
        )

    def _keep(self, over: threading.Event) -> None:
        while not over.wait(0.1):
            for process in list(self.processes.values()):
                process.revive()
