"""The builders that are compared: how each is started, called, and made to forget."""

import os
import shutil
import subprocess
import time
from pathlib import Path


class Failed(Exception):
    pass


def call(command, **options):
    """Runs a command, silently unless it fails; what it said."""
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options
    )
    text = done.stdout.decode(errors="replace")
    if done.returncode:
        raise Failed(f"{' '.join(map(str, command))}: exit code {done.returncode}\n{text[-3000:]}")
    return text


class Tool:
    """A builder with data of its own below `scratch`. `bases` are the root file systems that it was given."""

    environment = None
    # A command that may be called while others run; docker's has a daemon behind it.
    daemon = None

    def __init__(self, options, scratch):
        self.scratch = Path(scratch)
        self.options = options

    def start(self):
        pass

    def stop(self):
        pass

    def call(self, command):
        return call(command, env=self.environment)


class Strata(Tool):
    name = "strata"

    def __init__(self, options, scratch):
        super().__init__(options, scratch)
        self.root = self.scratch / "strata"
        self.base = [str(Path(options.strata).resolve()), "--root", str(self.root)]

    def version(self):
        return call([*self.base, "--version"]).strip()

    def forget(self, bases):
        shutil.rmtree(self.root, ignore_errors=True)
        for name, tar in bases.items():
            call([*self.base, "import", str(tar), name])

    def build(self, context, arguments=(), jobs=8, tag="bench/it"):
        return [*self.base, "build", "--progress", "plain", "-t", tag, "--jobs", str(jobs),
                *arguments, str(context)]

    def pulling(self):
        return []

    def export(self, codec, to):
        """Writes `bench/it` as an archive with its layers in `codec`."""
        return [*self.base, "save", "--quiet", "--format", "oci", "--compression", codec, "-o", str(to),
                "bench/it"]


class Buildah(Tool):
    name = "buildah"

    def __init__(self, options, scratch):
        super().__init__(options, scratch)
        self.root = self.scratch / "buildah"
        self.base = ["buildah", "--root", str(self.root), "--runroot", f"{scratch}/buildah-run",
                     "--storage-driver", "overlay"]
        # crun, the default where both are installed, refuses the hybrid layout of control groups.
        self.runtime = ["--runtime", "runc"] if shutil.which("runc") else []
        # Else it puts archives and blobs into /var/tmp, whatever file system that is.
        self.environment = {**os.environ, "TMPDIR": f"{scratch}/tmp"}

    def version(self):
        return call(["buildah", "--version"]).strip()

    def start(self):
        Path(self.environment["TMPDIR"]).mkdir()

    def forget(self, bases):
        unmount_below(self.root)
        shutil.rmtree(self.root, ignore_errors=True)
        for name, tar in bases.items():
            container = self.call([*self.base, "from", "scratch"]).strip().splitlines()[-1]
            self.call([*self.base, "add", "--quiet", container, str(tar), "/"])
            self.call([*self.base, "config", "--cmd", "/bin/sh", container])
            self.call([*self.base, "commit", "--quiet", "--rm", container, f"localhost/{name}"])

    def build(self, context, arguments=(), jobs=8, tag="bench/it"):
        pull = [] if "--pull" in arguments else ["--pull-never"]
        return [*self.base, "build", "--layers", "--network", "host", *pull, "-t", tag,
                "--jobs", str(jobs), *self.runtime, *arguments, str(context)]

    def pulling(self):
        return ["--pull", "--tls-verify=false"]

    def export(self, codec, to):
        return [*self.base, "push", "--quiet", "--format", "oci", "--compression-format", codec,
                "bench/it", f"oci-archive:{to}"]


class Docker(Tool):
    name = "docker"

    def __init__(self, options, scratch):
        super().__init__(options, scratch)
        # Short: the path of a socket may have 107 bytes.
        self.socket = f"unix://{scratch}/docker.sock"
        # Debian's, before any other: a newer command refuses BuildKit without the buildx plugin,
        # which Debian 12 does not have.
        self.command = "/usr/bin/docker" if os.path.exists("/usr/bin/docker") else "docker"
        self.base = [self.command, "--host", self.socket]
        self.environment = {**os.environ, "DOCKER_BUILDKIT": "1", "DOCKER_CONFIG": f"{scratch}/config"}

    def version(self):
        return call(["dockerd", "--version"]).strip()

    def start(self):
        self.log = open(self.scratch / "dockerd.log", "wb")
        self.daemon = subprocess.Popen(
            ["dockerd", "--host", self.socket, "--data-root", f"{self.scratch}/docker",
             "--exec-root", f"{self.scratch}/exec", "--pidfile", f"{self.scratch}/docker.pid",
             "--iptables=false", "--ip6tables=false", "--bridge=none", "--storage-driver=overlay2"],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
        )
        for _ in range(300):
            if self.daemon.poll() is not None:
                text = (self.scratch / "dockerd.log").read_text(errors="replace")[-3000:]
                raise Failed(f"dockerd ended at once:\n{text}")
            if subprocess.run([*self.base, "info"], capture_output=True).returncode == 0:
                return
            time.sleep(0.1)
        raise Failed("dockerd does not answer")

    def forget(self, bases):
        images = call([*self.base, "images", "--all", "--quiet"]).split()
        if images:
            subprocess.run([*self.base, "rmi", "--force", *set(images)], capture_output=True)
        call([*self.base, "builder", "prune", "--all", "--force"])
        for name, tar in bases.items():
            call([*self.base, "import", "--change", 'CMD ["/bin/sh"]', str(tar), name])

    def build(self, context, arguments=(), jobs=8, tag="bench/it"):
        del jobs  # BuildKit runs whatever is ready.
        return [*self.base, "build", "--network", "host", "--progress", "plain", "-t", tag,
                *arguments, str(context)]

    def pulling(self):
        return ["--pull"]

    def export(self, codec, to):
        # This docker writes archives without compression; a registry is where it compresses.
        return None

    def stop(self):
        if self.daemon and self.daemon.poll() is None:
            self.daemon.terminate()
            try:
                self.daemon.wait(30)
            except subprocess.TimeoutExpired:
                self.daemon.kill()
                self.daemon.wait()
            # An open file keeps its file system mounted.
            self.log.close()


TOOLS = {tool.name: tool for tool in (Strata, Buildah, Docker)}


class Registry:
    """Debian's docker-registry, empty, on a free port of 127.0.0.1."""

    def __init__(self, scratch):
        self.data = Path(scratch) / "registry"
        self.data.mkdir()
        (self.data / "config.yml").write_text(
            f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {self.data}/data}}}}\n"
            "http: {addr: 127.0.0.1:0}\nlog: {level: info}\n"
        )
        self.log = open(self.data / "log", "w+b")
        self.process = subprocess.Popen(
            ["docker-registry", "serve", str(self.data / "config.yml")],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
        )
        for _ in range(300):
            for line in (self.data / "log").read_text(errors="replace").splitlines():
                if "listening on 127.0.0.1:" in line:
                    port = line.split("listening on 127.0.0.1:")[1]
                    self.host = "127.0.0.1:" + "".join(c for c in port[:5] if c.isdigit())
                    return
            time.sleep(0.05)
        raise Failed("docker-registry does not start")

    def stop(self):
        self.process.terminate()
        self.process.wait()
        self.log.close()


def made_disk(scratch, size):
    """A new ext4 of `size` GiB in a file below `scratch`, mounted: as large as what is in it."""
    image, at = scratch / "disk.img", scratch / "disk"
    with open(image, "wb") as file:
        file.truncate(size << 30)
    call(["mkfs.ext4", "-q", "-F", str(image)])
    at.mkdir()
    call(["mount", "-o", "loop,discard", str(image), str(at)])
    return at


def unmount_below(directory):
    """Takes away what daemons and builders left mounted, deepest first."""
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for mount in sorted((m for m in mounts if m.startswith(f"{directory}/")), reverse=True):
        subprocess.run(["umount", mount], capture_output=True)
