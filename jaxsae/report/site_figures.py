"""What is lost at each site of a dictionary that writes several, what that costs the model, and whose latents are whose."""

from typing import Any

from jaxsae.report.figures import Group, Row, count, decimal
from jaxsae.report.read import RunFiles

TITLE = "Site by site"


def groups(run: RunFiles) -> list[Group]:
    """The group of the sites that it writes, where it writes several; none where there is none, or nothing was evaluated."""
    found = run.evaluations.get("reconstruction") or {}
    spliced = (run.evaluations.get("splice") or {}).get("each") or {}
    sites: dict[str, Any] = found.get("sites") or {}
    rows = [
        Row(
            site,
            f"FVU {decimal(figures.get('fvu'))}",
            {"ΔCE": decimal(spliced.get(site, {}).get("delta_ce")), "latents": count(found["exclusive"].get(site))},
            "latents: those with nine tenths of their decoder norms here",
        )
        for site, figures in sites.items()
    ]
    sample = f"{count(found.get('shared'))} latents shared by all sites, {count(found.get('between'))} in between"
    return [Group(TITLE, sample, rows)] if rows else []
