"""Findings for people: a line for each as it comes, a table at the end, and what to keep away from."""

from collections.abc import Mapping
from typing import Any

from jaxsae.check.findings import BAD, CUT, MEASURED, PASSED, SKIPPED, WRONG, Findings
from jaxsae.kernels.avoid import ENCODERS, PAIRS, VARIABLE

GIB = 2**30
INSTEAD = ("chunked", "xla", "cpu")  # encoders that run on any device
LIBRARY = "library"  # of the ceilings: no kernel of ours


def lines(finding: Mapping[str, Any]) -> list[str]:
    """A finding as it comes."""
    error, bound = finding["error"], finding["bound"]
    compared = "" if error is None or bound is None else f"error {error:.2g} of {bound:.2g}"
    head = f"{finding['status']:<9}{finding['name']:<52}{compared:<28}{finding['seconds']:>7.1f} s"
    told = _figures(finding) or finding["message"]
    return [head.rstrip(), *([f"{'':<9}{told}"] if told else [])]


def report(findings: Findings) -> list[str]:
    """The table at the end."""
    out = ["", *_machine(findings)]
    for part in (_kernels, _ceilings, _steps, _traces, _training):
        if table := part(findings):
            out += ["", *table]
    return [*out, "", *_verdict(findings)]


def advice(findings: Findings) -> str:
    """What is wrong, and how to keep away from it."""
    out = []
    for finding in findings.bad:
        what = "is wrong" if finding["status"] == WRONG else "failed"
        out.append(f"{finding['name']} {what}: {finding['message'][:300]}")
    bad = list(dict.fromkeys(f["implementation"] for f in findings.bad if not f["interpreted"]))
    if avoidable := [kernel for kernel in bad if kernel in (*ENCODERS, PAIRS)]:
        other = next((name for name in INSTEAD if name not in bad), None)
        take = f"--encoder={other} in `jaxsae train`, or " if other and set(avoidable) - {PAIRS} else ""
        names = ",".join(avoidable)
        out.append(f"Keep away from {names}: {take}{VARIABLE}={names} in the environment, for every command.")
    if rest := [kernel for kernel in bad if kernel and kernel not in avoidable and kernel != LIBRARY]:
        out.append(
            f"There is no way around {', '.join(rest)}: do not train on this machine, and report it with the JSON."
        )
    return "\n".join(out)


def _machine(findings: Findings) -> list[str]:
    of = findings.figures("machine")
    if not of:
        return ["nothing is known of this machine: no process came as far as to say"]
    memory = f", {of['memory_bytes'] / GIB:.0f} GiB" if of["memory_bytes"] else ""
    device = of["processor"] if of["platform"] == "cpu" else of["kind"]
    versions = ", ".join(f"{name} {version}" for name, version in of["versions"].items() if name in ("jax", "jaxsae"))
    return [f"{of['devices']} x {device}{memory}; {of['cores']} cores; {versions}, Python {of['python']}"]


def _kernels(findings: Findings) -> list[str]:
    """For each kernel how many of its checks it passed, and the one that came nearest its bound."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for finding in findings.of("kernels"):
        if finding["status"] in (PASSED, *BAD):
            of = f"{finding['implementation'] or finding['name']}{', interpreted' if finding['interpreted'] else ''}"
            rows.setdefault(of, []).append(finding)
    if not rows:
        return []
    out = [f"{'kernel':<28}{'passed':>8}{'of':>5}{'seconds':>9}  nearest to its bound"]
    for name, of in rows.items():
        passed = sum(f["status"] == PASSED for f in of)
        mark = "" if passed == len(of) else "  <-- " + ", ".join(f["name"] for f in of if f["status"] != PASSED)
        near = max((f for f in of if f["bound"]), key=lambda f: (f["error"] or 0) / f["bound"], default=None)
        nearest = (
            f"{near['error']:.2g} of {near['bound']:.2g}, {near['name']}" if near and near["error"] is not None else ""
        )
        seconds = sum(f["seconds"] for f in of)
        out.append(f"{name:<28}{passed:>8}{len(of):>5}{seconds:>9.1f}  {nearest}{mark}")
    return out


def _ceilings(findings: Findings) -> list[str]:
    return [f"{f['name']:<28}{_figures(f)}" for f in findings.of("ceilings")]


def _steps(findings: Findings) -> list[str]:
    """Each shape and state: the step against its matmul, the ceiling, and peers."""
    timed = [f for f in findings.of("steps") if f["status"] == MEASURED]
    if not timed:
        return []
    out = [f"{'step':<48}{'ms':>9}{'x matmul':>10}{'of ceiling':>12}{'its encode':>12}{'GiB':>7}{'rows/s':>11}"]
    for finding in (f for f in timed if f["implementation"] == "jaxsae"):
        of, state = finding["figures"], finding["name"]
        share, encode = _shares(of, findings)
        name = f"{state}, {of['optimizer']}"
        if of["width"] != finding["shapes"]["width"]:
            name += f", n {of['width']}"
        ms, floors = f"{of['step_seconds'] * 1e3:.1f}", f"{of['step_over_floor']:.2f}"
        memory, rate = f"{of['peak_memory_bytes'] / GIB:.1f}", f"{of['tokens_per_second']:,.0f}"
        out.append(f"{name:<48}{ms:>9}{floors:>10}{share:>12}{encode:>12}{memory:>7}{rate:>11}")
        peers = [f["figures"]["variants"] for f in timed if f["name"].startswith(f"{state}, ")]
        for variant, timing in (item for variants in peers for item in variants.items()):
            ratio = timing["seconds_over_ours"]
            out.append(
                f"{f'  {variant}':<48}{timing['seconds'] * 1e3:>9.1f}{'':>10}  {ratio:.2f} times as long as ours"
            )
    return out


def _traces(findings: Findings) -> list[str]:
    """Where the time of each step goes, on devices that tell."""
    out = []
    for finding in findings.of("steps"):
        if trace := finding["figures"].get("trace"):
            idle = trace["idle_fraction"]
            out.append(f"{finding['name']}: {'' if idle is None else f'idle {idle:.0%}, '}ms of")
            out += [f"{row['seconds'] * 1e3:>9.2f}  {row['name']}" for row in trace["operations"]]
            out.append(f"{trace['others_seconds'] * 1e3:>9.2f}  all others")
    return out


def _shares(of: Mapping[str, Any], findings: Findings) -> tuple[str, str]:
    """The rate of the encoder's product if it took all of the step, and all of encode, over that of the measured product."""
    ceiling = findings.figures(f"matmul {of['flags']['compute_dtype']}").get("flops")
    if not ceiling:
        return "", ""
    encode = of["parts"].get("encode")
    own = f"{of['encoder_flops'] / encode['seconds'] / ceiling:.0%}" if encode else ""
    return f"{of['flops_of_step'] / ceiling:.0%}", own


def _training(findings: Findings) -> list[str]:
    return [
        f"{f['name']:<28}{f['status']}; {_figures(f)}" for f in findings.of("training") if f["status"] in (PASSED, *BAD)
    ]


def _verdict(findings: Findings) -> list[str]:
    judged, passed = findings.judged, sum(f["status"] == PASSED for f in findings.judged)
    seed = findings.head["flags"]["seed"]
    out = [f"{passed} of {len(judged)} checks passed, seed {seed}" if judged else f"nothing was compared, seed {seed}"]
    for status, what in ((CUT, "cut off by --minutes"), (SKIPPED, "left out")):
        if names := [f["name"] for f in findings.all if f["status"] == status]:
            out.append(f"{what}: {_listed(names)}")
    if findings.not_reached:
        out.append(f"not reached: {_listed(findings.not_reached)}")
    return out


def _listed(names: list[str]) -> str:
    return f"{len(names)} ({', '.join(names[:6])}{' ...' if len(names) > 6 else ''})"


def _figures(finding: Mapping[str, Any]) -> str:
    """The figures that a line has room for."""
    of, part = finding["figures"], finding["part"]
    if part == "ceilings" and "flops" in of:
        return f"{of['flops'] / 1e12:,.3g} TFLOP/s, {finding['shapes']['width']:,} squared"
    if part == "ceilings" and "bytes_per_second" in of:
        return f"{of['bytes_per_second'] / 1e9:,.1f} GB/s, read and written"
    if part == "steps" and "step_seconds" in of:
        parts = ", ".join(f"{name} {took['seconds'] * 1e3:.1f}" for name, took in of["parts"].items())
        return f"{of['step_seconds'] * 1e3:.1f} ms, {of['step_over_floor']:.2f} x its matmul; ms of {parts}"
    if part == "steps" and of.get("variants"):
        return ", ".join(f"{name} {took['seconds'] * 1e3:.1f} ms" for name, took in of["variants"].items())
    if part == "training" and "fvu" in of:
        rate = f", {of['tokens_per_second']:,.0f} rows/s" if of["tokens_per_second"] else ""
        learnt = f"FVU {of['start_fvu']:.3f} at the start, {of['fvu']:.3f} after {of['steps']} steps{rate}"
        return f"{learnt}. {finding['message']}" if finding["message"] else learnt
    return ""
