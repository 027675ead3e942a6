"""What flags say of the sites that a run reads and writes: one, a pair, several as one, or several runs.

Functions of a `TrainConfig`, which calls them when it is made.
"""

from typing import Any

from jaxsae.config import check
from jaxsae.store import BESIDE


def check_sites(config: Any) -> None:
    """Raises `InputError` where what a run reads and writes is not said well; whether a store has it is seen later."""
    reads, writes = ",".join(config.reads), ",".join(config.writes)
    other = any(site.startswith(BESIDE) for site in config.reads)
    check(bool(config.beside) == other, "beside", config.beside, f"goes with --reads=SITE,{BESIDE}SITE: give both")
    check(not (config.beside and config.follow), "follow", "true", "two stores are read when both are there")
    if config.is_several:
        _check_several(config)
    check(bool(config.reads) or not config.writes, "writes", writes, "needs --reads, the site that it is made of")
    check(not (config.site and config.reads), "site", config.site, f"leave it out, or --reads={reads}")
    if config.cross_layer:
        _check_cross_layer(config)
    layers = config.method.layers
    check(config.cross_layer or layers == 1, "layers", layers, "goes with --cross_layer, from which it follows")
    if "*" in reads:
        return
    several = "is one site: give --writes too, or two or more sites, or --site for an autoencoder of it"
    check(len(config.reads) != 1 or bool(config.writes), "reads", reads, several)
    check(len(set(config.reads)) == len(config.reads), "reads", reads, "names a site twice")
    for name in ("reads", "writes") if config.writes and not config.cross_layer else ():
        sites = getattr(config, name)
        fix = "a transcoder reads one site and writes one. Give patterns, as 'mlp_in.*' and 'mlp_out.*', for one of "
        fix += "each layer, or --cross_layer for one dictionary of several"
        check(len(sites) <= 1, name, ",".join(sites), fix)
    crosscodes = len(config.reads) > 1 and not config.cross_layer
    architecture = config.method.architecture
    fix = "rescales an autoencoder's latents"
    check(not crosscodes or architecture != "rescaled", "architecture", architecture, fix)
    widths = ",".join(map(str, config.method.site_widths))
    check(crosscodes or not widths, "site_widths", widths, "goes with several --reads")
    alone = config.optimization.skip_rate is None or config.method.skip
    check(alone, "skip_rate", config.optimization.skip_rate, "goes with --skip")
    check(config.method.transcode == bool(config.writes), "transcode", config.method.transcode, "goes with --writes")
    if not config.writes:
        return
    check(config.reads != config.writes, "writes", writes, "is what is read: give --site instead of both")
    apart = "encoder and decoder rows of a transcoder are of different spaces. Leave it out"
    for name in ("tied", "aligned", "pre_bias"):
        check(not getattr(config.method, name), name, "true", apart)
    why = {
        "rescaled": "rescales an autoencoder's latents",
        "gated": "weighs latents whose decoder rows have length 1, and a transcoder's have none: take jumprelu",
    }
    check(architecture not in why, "architecture", architecture, why.get(architecture, ""))


def check_end_to_end(config: Any) -> None:
    """Raises `InputError` where a dictionary does not stand at one site of one model that a step can run."""
    reads = ",".join(config.reads)
    alone = len(config.reads) < 2 and not config.cross_layer
    fix = "end to end, one site is replaced by what is made of one: give --site, or --reads=SITE --writes=SITE"
    check(alone, "reads", reads, fix)
    for name in ("source_run", "follow"):
        value = getattr(config, name)
        check(not value, name, str(value).lower(), "steps that run the model (--kl, --later) read text. Leave it out")


def _check_cross_layer(config: Any) -> None:
    """Of what a cross-layer transcoder reads and writes."""
    method, reads, writes = config.method, ",".join(config.reads), ",".join(config.writes)
    fix = "needs --reads and --writes, such as 'mlp_in.*' and 'mlp_out.*'"
    check(bool(reads and writes), "cross_layer", "true", fix)
    even = len(config.reads) == len(config.writes) or "*" in reads + writes
    check(even, "writes", writes, f"--cross_layer writes as many layers as it reads, {len(config.reads)}")
    fix = "keeps the k largest latents of all layers, and the first is written before they are known: take batchtopk"
    check(not method.k_of_a_row, "architecture", method.architecture, fix)
    check(not method.skip, "skip", "true", "nothing skips the latents of a cross-layer transcoder. Leave it out")
    check(not config.beside, "beside", config.beside, "is for crosscoders")


def _check_several(config: Any) -> None:
    """Of what makes several runs."""
    listed, reads = ",".join(config.sites), ",".join(config.reads)
    for name in ("site", "reads", "writes"):
        given = getattr(config, name)
        shown = given if isinstance(given, str) else ",".join(given)
        check(not config.sites or not given, "sites", listed, f"leave --{name}={shown} out, or this flag")
    paired = config.sites or all(len(s) == 1 and s[0].count("*") == 1 for s in (config.reads, config.writes))
    fix = "a pattern goes with one of --writes: one * in each, for the layer, such as 'mlp_in.*' and 'mlp_out.*'"
    check(paired, "reads", reads, fix)
    for name in ("source_run", "finetune", "follow"):
        value = getattr(config, name)
        check(not value, name, str(value).lower(), "is for a run of one site: name that with --site or --reads")
