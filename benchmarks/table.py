"""Print the table of a result of cpu.py; with --write, put it into README.md between its markers.

python benchmarks/table.py benchmarks/results/RESULT.json [--write]
"""

import argparse
import json
from pathlib import Path

README = Path(__file__).resolve().parent / "README.md"
BEGIN, END = "<!-- table -->", "<!-- end of table -->"
NAMES = {"dirac": "Dirac-GAN", "bilinear": "bilinear", "quadratic": "10+10 quadratic"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("result", type=Path)
    parser.add_argument("--write", action="store_true", help="write the table into README.md")
    options = parser.parse_args()
    text = table(json.loads(options.result.read_text()), options.result.name)
    print(text)
    if options.write:
        before, rest = README.read_text().split(BEGIN)
        README.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}")


def table(result: dict, source: str) -> str:
    """Two tables in Markdown: everybody on one core, and the library against C on all cores."""
    machine, versions, settings = result["machine"], result["versions"], result["settings"]
    load = f"{settings['load_before'][0]:.1f} before, {settings['load_after'][0]:.1f} after"
    lines = [
        f"From `results/{source}`, {result['date'][:10]}: {machine.get('Model name', 'unknown processor')} (family "
        f"{machine.get('CPU family', '?')}, model {machine.get('Model', '?')}), {machine.get('CPU(s)', '?')} cores; "
        f"JAX {versions['jax']}, diffrax {versions['diffrax']}, NumPy {versions['numpy']}, {versions['compiler']}. "
        f"Load {load}; median of {settings['repeats']} timings.",
        "",
    ]
    one = [row for row in result["rows"] if row["cores"] == 1]
    rest = [row for row in result["rows"] if row["cores"] > 1]
    lines += ["One core, CPU time:", ""] + grid(one)
    if rest:
        lines += ["", f"{rest[0]['cores']} cores, wall time:", ""] + grid(rest)
    return "\n".join(lines)


def grid(rows: list[dict]) -> list[str]:
    rivals = list(dict.fromkeys(row["rival"] for row in rows))
    head = ["game", "type", "games", "C, ns", *(f"{rival}" for rival in rivals[1:]), "compile, s"]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for key in dict.fromkeys((row["game"], row["precision"], row["games"]) for row in rows):
        found = {row["rival"]: row for row in rows if (row["game"], row["precision"], row["games"]) == key}
        cells = [NAMES[key[0]], key[1], f"{key[2]:,}"]
        for rival in rivals:
            row = found.get(rival)
            if row is None:
                cells.append("-")
                continue
            value = f"{row['ns_per_game_step']:.3g}" if rival == "C" else f"{row['ratio_to_c']:.3g}x"
            cells.append(f"{value} ({row['error']:.0e})")
        cells.append(f"{found['library']['compile_seconds']:.1f}")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


if __name__ == "__main__":
    main()
