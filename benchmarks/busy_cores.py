"""What is left of a network's speed when another process computes on the same cores.

Run: python benchmarks/busy_cores.py [seconds]

Threads of OpenMP wait for each other by asking again and again (GOMP_SPINCOUNT, in libgomp's
manual), which takes the core from the one that they wait for. ResNet-18 looks at images, and a
small head is trained, as a run on frozen features does: alone, and in two processes at once.
"""

import os
import statistics
import subprocess
import sys

from _memes import machine

ROUNDS = 3
PROGRAM = """
import sys, time, torch, torchvision
torch.manual_seed(0)
network = torchvision.models.resnet18().eval()
images_B3HW = torch.randn(8, 3, 224, 224)
head = torch.nn.Sequential(torch.nn.Linear(600, 300), torch.nn.ReLU(), torch.nn.Linear(300, 2))
features_BD = torch.randn(32, 600)

def look():
    with torch.inference_mode():
        network(images_B3HW)
    return 8

def train():
    head(features_BD).sum().backward()
    return 32

for work in (look, train):
    work()
    start, done = time.perf_counter(), 0
    while time.perf_counter() < start + float(sys.argv[1]):
        done += work()
    print(done / (time.perf_counter() - start))
"""


def rates(processes: int, spin_count: str | None, seconds: str) -> list[float]:
    """Samples/s of the two works, over all processes that run at once."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    if spin_count:
        environment["GOMP_SPINCOUNT"] = spin_count
    command = [sys.executable, "-c", PROGRAM, seconds]
    running = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(processes)
    ]
    found = [[float(line) for line in each.communicate()[0].split()] for each in running]
    return [sum(each) for each in zip(*found, strict=True)]


def main() -> None:
    seconds = sys.argv[1] if len(sys.argv) > 1 else "4"
    print(f"samples/s over all processes, median of {ROUNDS}")
    print("                                 ResNet-18   a small head, training")
    settings = [(count, spins) for count in (1, 2) for spins in (None, "10000", "1000")]
    found: dict[tuple[int, str | None], list[list[float]]] = {each: [] for each in settings}
    for _ in range(ROUNDS):  # in turns: all see the same neighbours on a shared machine
        for each in settings:
            found[each].append(rates(*each, seconds))
    for (processes, spin_count), rounds in found.items():
        look, train = map(statistics.median, zip(*rounds, strict=True))
        setting = f"GOMP_SPINCOUNT={spin_count}" if spin_count else "as it is"
        print(f"{processes} at once, {setting:20} {look:9.1f} {train:15.0f}")
    print(machine())


if __name__ == "__main__":
    main()
