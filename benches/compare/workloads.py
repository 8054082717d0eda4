"""What builders are asked to do. Each workload knows its files, the limit beside it, and how to see that
the result is right."""

import json
import os
import re
import shutil
import subprocess
import tarfile
import threading
import time
from pathlib import Path

from inputs import edit, write_c_project, write_many, write_mixed, write_wide_base
from tools import Failed, Registry, call


class Workload:
    """`go` is timed; `before` and `check` are not. Goals are ratios: of the limit, and of the best peer."""

    goal_limit = None
    goal_peer = None
    # MiB that all processes of strata may hold together.
    goal_memory = 64
    # Whose memory is measured (P9).
    weighed = False
    timed = True
    heavy = False
    tools = ("strata", "buildah", "docker")
    # Root file systems that builds start from.
    bases = ("busybox",)

    def __init__(self, bench):
        self.bench = bench
        self.at = bench.scratch / self.id.lower()
        self.at.mkdir()
        self.prepare()

    def prepare(self):
        pass

    def dockerfile(self, text, name="context"):
        folder = self.at / name
        folder.mkdir(exist_ok=True)
        (folder / "Dockerfile").write_text(text)
        return folder

    def limit(self):
        """Seconds that the machine itself needs."""
        return None

    def setup(self, tool):
        """Once for each tool, before the rounds."""
        tool.forget(self.bench.bases(self.bases))

    def before(self, tool, turn):
        pass

    def command(self, tool, turn):
        return tool.build(self.at / "context", self.turn(turn))

    def go(self, tool, turn):
        return tool.call(self.command(tool, turn))

    def check(self, tool, said):
        pass

    def memory(self, tool):
        """Names and commands whose memory is looked at."""
        if self.weighed:
            self.before(tool, "memory")
            yield self.id, self.command(tool, "memory")

    def turn(self, turn):
        return ["--build-arg", f"TURN={turn}-{os.getpid()}"]

    def holds(self, tool, script, expected):
        """Fails unless `script`, run in the image that was built, prints `expected`."""
        folder = self.dockerfile(f"FROM bench/it\nRUN echo found=$({script})=\n", "check")
        said = tool.call(tool.build(folder, ["--no-cache"], tag="bench/check"))
        if f"found={expected}=" not in said:
            raise Failed(f"{self.id}: {tool.name}: `{script}` does not give {expected}:\n{said[-2000:]}")


def cached(workload, tool, said, steps):
    """Fails unless all steps were hits."""
    found = len(re.findall(r"CACHED|Using cache", said))
    if found < steps:
        raise Failed(f"{workload.id}: {tool.name}: {found} hits of {steps}:\n{said[-2000:]}")


class Cached(Workload):
    """Builds again what was built: every step is a hit."""

    def setup(self, tool):
        super().setup(tool)
        self.go(tool, 0)

    def turn(self, turn):
        return []


class P1(Cached):
    id = "P1"
    what = "no-op, 10 steps"
    goal_limit, goal_peer = 2, 8

    def prepare(self):
        folder = self.dockerfile(
            "FROM busybox\nWORKDIR /work\nRUN echo one > one\nRUN echo two > two\nCOPY src/0.txt src/1.txt ./\n"
            "RUN cat 0.txt 1.txt > three\nCOPY src src\nRUN cat src/*.txt > four\nENV MODE=release\n"
            "RUN echo $MODE > five\n"
        )
        (folder / "src").mkdir()
        for number in range(20):
            (folder / "src" / f"{number}.txt").write_text(f"file {number}\n" * 50)

    def limit(self):
        return self.bench.limit("walk", self.at / "context")

    def check(self, tool, said):
        cached(self, tool, said, 6)


class P2(Cached):
    id = "P2"
    weighed = True
    goal_memory = 128
    what = "no-op, COPY of {files} files"
    goal_limit, goal_peer = 1.5, 8

    def prepare(self):
        self.files = self.bench.scaled(50_000)
        self.what = self.what.format(files=self.files)
        folder = self.dockerfile("FROM busybox\nCOPY . /src\nRUN true\n")
        write_many(folder / "tree", self.files, 500, 2)

    def limit(self):
        return self.bench.limit("walk", self.at / "context")

    def check(self, tool, said):
        cached(self, tool, said, 2)


class P2b(P2):
    id = "P2b"
    weighed = False
    what = "the same, one file edited"
    goal_limit, goal_peer = 3, 10

    def before(self, tool, turn):
        edit(self.at / "context/tree/3/700.txt", f"{turn} {tool.name}")

    def check(self, tool, said):
        self.holds(tool, "find /src/tree -type f | wc -l", self.files)
        if not said:
            raise Failed("nothing was said")


class P3a(Workload):
    id = "P3a"
    weighed = True
    what = "cold COPY of {size} MiB in 8 files"
    goal_limit, goal_peer = 1.2, 4
    heavy = True

    def prepare(self):
        self.size = self.bench.scaled(1024)
        self.what = self.what.format(size=self.size)
        folder = self.dockerfile("FROM busybox\nCOPY big /big\n")
        (folder / "big").mkdir()
        for number in range(8):
            write_mixed(folder / f"big/{number}", (self.size << 20) // 8, self.bench.sample, number)
        self.sum = call(["sha256sum", str(folder / "big/5")]).split()[0]

    def limit(self):
        to = self.at / "copy"
        shutil.rmtree(to, ignore_errors=True)
        return self.bench.limit("copy", self.at / "context/big", to)

    def before(self, tool, turn):
        tool.forget(self.bench.bases(self.bases))

    def check(self, tool, said):
        self.holds(tool, "sha256sum /big/5 | cut -c1-64", self.sum)


class P3b(Workload):
    id = "P3b"
    what = "cold COPY of {files} small files"
    goal_limit, goal_peer = 1.5, 4
    heavy = True

    def prepare(self):
        self.files = self.bench.scaled(20_000)
        self.what = self.what.format(files=self.files)
        write_many(self.dockerfile("FROM busybox\nCOPY tree /tree\n") / "tree", self.files, 2_000, 3)

    def limit(self):
        to = self.at / "copy"
        shutil.rmtree(to, ignore_errors=True)
        return self.bench.timed(["cp", "-a", str(self.at / "context/tree"), str(to)])

    def before(self, tool, turn):
        tool.forget(self.bench.bases(self.bases))

    def check(self, tool, said):
        self.holds(tool, "find /tree -type f | wc -l", self.files)


class P4(Workload):
    id = "P4"
    what = "40 trivial RUN steps"
    goal_limit, goal_peer = 2, 10

    def prepare(self):
        self.dockerfile("FROM busybox\nARG TURN\n" + "RUN true\n" * 40)

    def limit(self):
        return self.bench.runs(40, "busybox")

    def check(self, tool, said):
        # The base may be called one.
        if len(re.findall(r"CACHED|Using cache", said)) > 1:
            raise Failed(f"{self.id}: {tool.name}: a step was a hit\n{said[-2000:]}")


class P5(Workload):
    id = "P5"
    what = "8 stages of `sleep 1`"
    goal_limit, goal_peer = 1.05, 1

    def prepare(self):
        stages = "".join(
            f"FROM busybox AS stage{n}\nARG TURN\nRUN sleep 1 && echo {n} > /{n}\n" for n in range(8)
        )
        copies = "".join(f"COPY --from=stage{n} /{n} /\n" for n in range(8))
        self.dockerfile(f"{stages}FROM busybox\n{copies}")

    def limit(self):
        return 1.0

    def check(self, tool, said):
        self.holds(tool, "cat /0 /1 /2 /3 /4 /5 /6 /7 | tr -d \\\\n", "01234567")


class Export(Workload):
    """One big layer, written as an archive."""

    heavy = True
    mebibytes = 512
    codec = None
    tools = ("strata", "buildah")
    goal_peer = 2
    anew = True

    def prepare(self):
        self.size = self.bench.scaled(self.mebibytes)
        self.what = self.what.format(size=self.size)
        folder = self.dockerfile("FROM scratch\nCOPY big /big\n")
        write_mixed(folder / "big", self.size << 20, self.bench.sample, 6)
        self.sizes = {}

    def limit(self):
        # pigz at the highest level whose blob is not smaller than that of strata's default.
        command = {"gzip": "pigz -p2 -4", "zstd": "zstd -3 -T2 -q"}[self.codec]
        out = self.at / "limit"
        found = self.bench.timed(["sh", "-c", f"{command} -c <{self.at}/context/big >{out}"])
        self.sizes["limit"] = out.stat().st_size
        return found

    def setup(self, tool):
        super().setup(tool)
        tool.call(tool.build(self.at / "context"))
        if not self.anew:
            self.go(tool, 0)

    def before(self, tool, turn):
        (self.at / "out.tar").unlink(missing_ok=True)
        if self.anew and tool.name == "strata":
            # A layer is compressed once ever; only another layer of the same bytes is compressed again.
            tool.forget(self.bench.bases(()))
            tool.call(tool.build(self.at / "context"))

    def command(self, tool, turn):
        return tool.export(self.codec, self.at / "out.tar")

    def check(self, tool, said):
        with tarfile.open(self.at / "out.tar") as archive:
            blob = max((member for member in archive if member.isreg()), key=lambda it: it.size)
            reader = {"gzip": ["gzip", "-dc"], "zstd": ["zstd", "-dcq"]}[self.codec]
            layer = archive.extractfile(blob)
            unpack = subprocess.Popen(reader, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            feeder = threading.Thread(target=lambda: (shutil.copyfileobj(layer, unpack.stdin), unpack.stdin.close()))
            feeder.start()
            length = sum(len(piece) for piece in iter(lambda: unpack.stdout.read(1 << 20), b""))
            feeder.join()
            unpack.wait()
        if length < self.size << 20:
            raise Failed(f"{self.id}: {tool.name}: the layer has {length} bytes")
        self.sizes[tool.name] = blob.size


class P6gzip(Export):
    id, what, codec, goal_limit = "P6gzip", "export of {size} MiB, gzip", "gzip", 1
    weighed = True


class P6zstd(Export):
    id, what, codec, goal_limit = "P6zstd", "export of {size} MiB, zstd", "zstd", 1


class P6again(Export):
    id, what, codec, goal_limit = "P6again", "the gzip export again", "gzip", 1
    anew = False

    def limit(self):
        found = self.bench.timed(["cp", str(self.at / "out.tar"), str(self.at / "copy.tar")])
        return found


class P9big(Export):
    """Memory alone, of a layer far larger than what may be held."""

    id, what, mebibytes = "P9big", "export of {size} MiB", 2048
    tools = ("strata",)
    timed = False
    anew = False

    def setup(self, tool):
        Workload.setup(self, tool)
        tool.call(tool.build(self.at / "context"))

    def memory(self, tool):
        for self.codec in ("gzip", "zstd"):
            self.before(tool, "memory")
            yield f"{self.id} {self.codec}", self.command(tool, "memory")
            self.check(tool, "")
        # What comes out is P6's subject.
        self.sizes = {}


class P6push(Workload):
    id, what = "P6push", "push of {size} MiB, gzip"
    heavy = True
    goal_peer = 2

    def prepare(self):
        self.size = self.bench.scaled(512)
        self.what = self.what.format(size=self.size)
        folder = self.dockerfile("FROM scratch\nCOPY big /big\n")
        write_mixed(folder / "big", self.size << 20, self.bench.sample, 6)
        self.sizes = {}
        self.registry = None
        self.bench.closing.append(self.drop_registry)

    def drop_registry(self):
        if self.registry:
            self.registry.stop()
            shutil.rmtree(self.registry.data, ignore_errors=True)
            self.registry = None

    def before(self, tool, turn):
        # One is left if the push failed.
        self.drop_registry()
        self.registry = Registry(self.at)
        tool.forget(self.bench.bases(()))
        self.name = f"{self.registry.host}/it:{tool.name}"
        tool.call(tool.build(self.at / "context", tag=self.name))

    def command(self, tool, turn):
        insecure = ["--tls-verify=false"] if tool.name == "buildah" else []
        return [*tool.base, "push", *insecure, self.name]

    def check(self, tool, said):
        try:
            manifest = json.loads(call(["skopeo", "inspect", "--raw", "--tls-verify=false",
                                        f"docker://{self.name}"]))
            if len(manifest["layers"]) != 1:
                raise Failed(f"{self.id}: {tool.name}: {manifest}")
            self.sizes[tool.name] = manifest["layers"][0]["size"]
        finally:
            self.drop_registry()


class P7(Workload):
    id, what = "P7", "pull and unpack of {size} MB in 5 layers, and a RUN"
    weighed = True
    heavy = True
    goal_limit, goal_peer = 1.2, 2.5

    def prepare(self):
        self.size = self.bench.scaled(500)
        self.what = self.what.format(size=self.size)
        self.registry = Registry(self.at)
        self.bench.closing.append(self.registry.stop)
        self.name = f"{self.registry.host}/base:1"
        folder = self.dockerfile("FROM busybox\n" + "".join(f"COPY {n} /data/{n}\n" for n in range(5)), "base")
        for number in range(5):
            (folder / f"{number}").mkdir()
            for part in range(20):
                write_mixed(folder / f"{number}/{part}", self.size * 10_000, self.bench.sample, 100 * number + part)
        maker = self.bench.tools["strata"]
        maker.forget(self.bench.bases(("busybox",)))
        maker.call(maker.build(folder, tag=self.name))
        maker.call([*maker.base, "push", self.name])
        self.sum = call(["sha256sum", str(folder / "4/19")]).split()[0]
        self.dockerfile(f"FROM {self.name}\nRUN true\n")
        manifest = json.loads(call(["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{self.name}"]))
        self.blobs = [layer["digest"] for layer in manifest["layers"]]

    def limit(self):
        to = self.at / "unpacked"
        shutil.rmtree(to, ignore_errors=True)
        # Every layer at once, each through a pipe.
        parts = "".join(
            f"(mkdir -p {to}/{n} && curl -s http://{self.registry.host}/v2/base/blobs/{blob} | gzip -dc "
            f"| tar -x -C {to}/{n}) &\n"
            for n, blob in enumerate(self.blobs)
        )
        return self.bench.timed(["sh", "-c", f"{parts}wait"])

    def before(self, tool, turn):
        tool.forget({})

    def command(self, tool, turn):
        return tool.build(self.at / "context", tool.pulling())

    def check(self, tool, said):
        self.holds(tool, "sha256sum /data/4/19 | cut -c1-64", self.sum)


class P8(Workload):
    id, what = "P8", "RUN that touches one file of a base of {size} MB, {files} files"
    goal_limit, goal_peer = 2, 20
    bases = ("wide",)

    def prepare(self):
        self.size, self.files = self.bench.scaled(500), self.bench.scaled(30_000)
        self.what = self.what.format(size=self.size, files=self.files)
        tar = self.at / "wide.tar"
        write_wide_base(tar, self.bench.busybox, self.bench.sample, self.files, self.size * 1_000_000)
        self.bench.base_tars["wide"] = tar
        self.dockerfile("FROM wide\nARG TURN\nRUN echo $TURN > /data/1/201\n")

    def limit(self):
        return self.bench.runs(1, "wide")

    def check(self, tool, said):
        self.holds(tool, "grep -c - /data/1/201", 1)


class P10(Workload):
    """A C project; what is built differs by `kind`."""

    bases = ("debian",)
    heavy = True
    goal_limit = 1.05
    goal_peer = 1
    mount = ""
    steps = "make -s -j2"
    clean = True

    def prepare(self):
        folder = self.dockerfile(f"FROM debian\nWORKDIR /src\nCOPY src .\nRUN {self.mount}{self.steps}\n")
        files = self.bench.scaled(200)
        write_c_project(folder / "src", files)
        self.chroot = self.bench.unpacked("debian")
        self.edited = folder / f"src/f{files // 2}.c"

    def limit(self):
        target = self.chroot / "src"
        if self.clean:
            shutil.rmtree(target, ignore_errors=True)
        edit(self.edited, f"limit {time.time()}")
        call(["rsync" if shutil.which("rsync") else "cp", "-a", f"{self.at}/context/src/.", f"{target}/"])
        return self.bench.timed(["chroot", str(self.chroot), "sh", "-c", f"mkdir -p /obj && cd /src && {self.steps}"])

    def check(self, tool, said):
        self.holds(tool, "/out/program | grep -c [0-9]", 1)


class P10cold(P10):
    id, what = "P10cold", "C project of 200 files: cold"

    def before(self, tool, turn):
        edit(self.edited, f"{turn} {tool.name}")
        tool.forget(self.bench.bases(self.bases))


class P10noop(P10):
    id, what = "P10noop", "the same: no-op"
    goal_limit = None
    heavy = False

    def limit(self):
        return None

    def setup(self, tool):
        super().setup(tool)
        self.go(tool, 0)


class P10edit(P10):
    id, what = "P10edit", "the same: one edit"

    def setup(self, tool):
        super().setup(tool)
        self.go(tool, 0)

    def before(self, tool, turn):
        edit(self.edited, f"{turn} {tool.name}")


class P10mount(P10edit):
    id, what = "P10mount", "the same: one edit, with a cache mount"
    mount = "--mount=type=cache,target=/obj "
    steps = "make -s -j2 OBJ=/obj"
    goal_limit = None
    clean = False

    def prepare(self):
        super().prepare()
        # The limit, too, finds objects of an earlier build.
        self.limit()


class P11(Workload):
    id, what = "P11", "COPY --from a stage: {size} MiB, {files} files"
    goal_limit, goal_peer = 2, 10
    heavy = True

    def prepare(self):
        self.size, self.files = self.bench.scaled(1024), self.bench.scaled(20_000)
        self.what = self.what.format(size=self.size, files=self.files)
        folder = self.name("first")
        write_many(folder / "data/tree", self.files, 2_000, 11)
        write_mixed(folder / "data/big", self.size << 20, self.bench.sample, 11)
        # The limit links files of its own: another name is a change of the file's ctime, after which whoever
        # relies on that reads the whole context again.
        shutil.copytree(folder / "data", self.at / "data")

    def name(self, place):
        """Another destination makes another step; buildah compares it before an ARG is put in."""
        self.place = place
        return self.dockerfile(
            f"FROM busybox AS made\nCOPY data /data\nFROM busybox\nCOPY --from=made /data /{place}\n"
        )

    def limit(self):
        to = self.at / "links"
        shutil.rmtree(to, ignore_errors=True)
        return self.bench.timed(["cp", "-al", str(self.at / "data"), str(to)])

    def setup(self, tool):
        super().setup(tool)
        self.go(tool, "first")

    def before(self, tool, turn):
        self.name(f"{turn}-{os.getpid()}")

    def check(self, tool, said):
        self.holds(tool, f"find /{self.place} -type f | wc -l", self.files + 1)


class P12(Workload):
    id, what = "P12", "{builds} builds at once, half of the steps shared"
    goal_limit = 1.2
    heavy = True
    tools = ("strata", "docker")

    def prepare(self):
        self.builds = self.bench.scaled(32)
        self.what = self.what.format(builds=self.builds)
        # About a fifth of a second of processor time.
        self.work = "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done"
        for number in range(self.builds):
            shared = "".join(f"RUN {self.work}; echo $TURN shared {n}\n" for n in range(4))
            own = "".join(f"RUN {self.work}; echo {number} {n}\n" for n in range(4))
            self.dockerfile(f"FROM busybox\nARG TURN\n{shared}{own}RUN echo {number} >/number\n", f"{number}")

    def limit(self):
        one = self.bench.timed(["busybox", "sh", "-c", self.work])
        return one * (4 + 4 * self.builds) / os.cpu_count()

    def go(self, tool, turn):
        running = [
            subprocess.Popen(tool.build(self.at / f"{n}", self.turn(turn), jobs=2, tag=f"bench/it{n}"),
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                             env=tool.environment)
            for n in range(self.builds)
        ]
        said = [build.communicate()[0].decode(errors="replace") for build in running]
        for build, text in zip(running, said):
            if build.returncode:
                raise Failed(f"{self.id}: {tool.name}: {text[-2000:]}")
        return said[0]

    def check(self, tool, said):
        last = self.builds - 1
        folder = self.dockerfile(f"FROM bench/it{last}\nRUN echo found=$(cat /number)=\n", "check")
        if f"found={last}=" not in tool.call(tool.build(folder, ["--no-cache"], tag="bench/check")):
            raise Failed(f"{self.id}: {tool.name}: the wrong image")


class P13(Workload):
    """Stages of trivial steps, gathered in two steps so that no image has more layers than Docker takes."""

    tools = ("strata", "docker")
    goal_peer = 10

    def prepare(self):
        groups = max(2, self.bench.scaled(18))
        text, self.steps = "", 0
        for group in range(groups):
            for stage in range(10):
                text += f"FROM busybox AS s{group}-{stage}\nARG TURN\n" + f"RUN true {group} {stage}\n" * 9
                text += f"RUN echo {group} {stage} > /f{stage}\n"
            text += f"FROM busybox AS g{group}\n"
            text += "".join(f"COPY --from=s{group}-{stage} /f{stage} /g{group}/\n" for stage in range(10))
        text += "FROM busybox\n" + "".join(f"COPY --from=g{n} /g{n} /g{n}\n" for n in range(groups))
        self.groups = groups
        self.runs = groups * 100
        self.steps = self.runs + groups * 11
        self.what = self.what.format(steps=self.steps, stages=groups * 11)
        self.dockerfile(text)

    def check(self, tool, said):
        self.holds(tool, "cat /g*/f* | wc -l", self.groups * 10)


class P13cold(P13):
    id, what = "P13cold", "{steps} steps in {stages} stages, cold"
    heavy = True

    def limit(self):
        return self.bench.runs(self.runs, "busybox") / os.cpu_count()


class P13noop(P13):
    id, what = "P13noop", "{steps} steps in {stages} stages, no-op"
    goal_limit = 1

    def setup(self, tool):
        super().setup(tool)
        self.go(tool, 0)

    def turn(self, turn):
        return super().turn(0)

    def limit(self):
        return 0.05


ALL = [P1, P2, P2b, P3a, P3b, P4, P5, P6gzip, P6zstd, P6again, P6push, P7, P8, P9big, P10cold, P10noop, P10edit, P10mount,
       P11, P12, P13cold, P13noop]
