"""Reading PTX: blocks, what lies on a cycle, and which accesses to shared words there are."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

ARCHITECTURES = ("sm_80", "sm_90", "sm_100")


class Ptx:
    """The entry of a module, as basic blocks; device functions of the math library are apart."""

    def __init__(self, text: str) -> None:
        self.text = text
        body = text[text.index(".entry") :]
        body = body[body.index("{") : body.index("\n}\n") if "\n}\n" in body else len(body)]
        self.blocks: dict[str, list[str]] = {"": []}
        name = ""
        for raw in body.splitlines():
            line = raw.split("//")[0].strip()
            if label := re.match(r"(\$[\w$]+):", line):
                before, name = name, label[1]
                self.blocks[name] = []
                if not re.match(r"bra|ret|exit", (self.blocks[before] or [""])[-1]):
                    self.blocks[before].append(f"bra {name};")
            elif line:
                self.blocks[name].append(line)
        branch = re.compile(r"bra(?:\.uni)?\s+(\$[\w$]+)")
        self.after = {name: branch.findall("\n".join(code)) for name, code in self.blocks.items()}

    def _reachable(self, start: str) -> set[str]:
        seen: set[str] = set()
        todo = list(self.after[start])
        while todo:
            name = todo.pop()
            if name not in seen:
                seen.add(name)
                todo += self.after[name]
        return seen

    def polling_loop(self) -> str:
        """The code of all blocks that lie on a common cycle with the nap: the loop of the first thread."""
        reach = {name: self._reachable(name) for name in self.blocks}
        naps = [name for name, code in self.blocks.items() if any("nanosleep" in line for line in code)]
        assert naps, "no nap"
        cycle = [name for name in self.blocks if name in reach[naps[0]] and naps[0] in reach[name]]
        assert cycle, "the nap is in no loop"
        return "\n".join(line for name in cycle for line in self.blocks[name])


def order_of(text: str) -> str:
    """The ordered accesses of a straight piece of code, as letters: l and s relaxed, a acquire, r release, f fence, and
    as capital letters what only this GPU sees. Runs of the same letter are one."""
    letters = {"ld.relaxed.sys": "l", "st.relaxed.sys": "s", "ld.acquire.sys": "a", "st.release.sys": "r"}
    letters["fence.acq_rel.sys"] = "f"
    letters |= {"ld.relaxed.gpu": "L", "st.relaxed.gpu": "S", "fence.acq_rel.gpu": "F"}
    found = "".join(letters[one] for one in re.findall("|".join(map(re.escape, letters)), text))
    return re.sub(r"(.)\1+", r"\1", found)


def find_assembler() -> str | None:
    """`ptxas`: on the PATH, or from the nvidia-cuda-nvcc wheel."""
    found = shutil.which("ptxas")
    if found is None:
        import nvidia

        wheels = [file for root in nvidia.__path__ for file in Path(root).glob("**/ptxas")]
        found = str(wheels[0]) if wheels else None
    return found


def assemble(text: str, architectures: tuple[str, ...], folder: Path) -> list[tuple[int, int]]:
    """Registers and bytes of stack of the entry, according to `ptxas`, which runs for all architectures at once."""
    source = folder / "grid.ptx"
    source.write_text(text)
    assembler = find_assembler()
    assert assembler is not None, "no ptxas: install nvidia-cuda-nvcc (make cuda does)"
    running = [
        subprocess.Popen(
            [assembler, f"-arch={architecture}", "-v", str(source), "-o", str(folder / f"{architecture}.cubin")],
            stderr=subprocess.PIPE,
            text=True,
        )
        for architecture in architectures
    ]
    found = []
    for one in running:
        said = one.communicate()[1]
        assert one.returncode == 0, said
        stack = int(re.search(r"(\d+) bytes stack frame", said)[1])  # type: ignore[index]
        registers = int(re.search(r"Used (\d+) registers", said)[1])  # type: ignore[index]
        found.append((registers, stack))
    return found
