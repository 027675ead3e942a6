"""Lists of flags become members: crossed, zipped, by rules; what contradicts itself is refused by name."""

import pytest

from jaxsae import cli
from jaxsae.errors import InputError
from jaxsae.sweep.grid import make_members


def test_lists_are_crossed_and_members_named_by_what_they_differ_in(configure):
    members = make_members(configure(width="32,64", k="4,8", seed="0,1"))
    assert [m.name for m in members][:3] == ["seed0_width32_k4", "seed0_width32_k8", "seed0_width64_k4"]
    assert len(members) == 8
    found = {(m.config.seed, m.config.method.width, m.config.method.k) for m in members}
    assert found == {(s, n, k) for s in (0, 1) for n in (32, 64) for k in (4, 8)}
    assert {m.config.order_seed for m in members} == {0}  # so that seeds share their batches
    assert {m.config.workdir.rsplit("/", 1)[1] for m in members} == {m.name for m in members}


def test_zipped_lists_go_together_and_the_rest_is_crossed(configure):
    members = make_members(configure(width="32,64", tokens="640,1280", k="4,8", zip="width,tokens"))
    found = [(m.config.method.width, m.config.tokens, m.config.method.k) for m in members]
    assert found == [(32, 640, 4), (32, 640, 8), (64, 1280, 4), (64, 1280, 8)]
    assert len(make_members(configure(width="32,64", k="4,8", zip="all"))) == 2


def test_tokens_and_rate_follow_their_rules(configure):
    rules = dict(tokens_exponent=0.6, learning_rate_exponent=-0.5, anchor_width=64)
    small, anchor, large = make_members(configure(width="16,64,256", tokens=64000, learning_rate=0.01, **rules))
    assert (anchor.config.tokens, anchor.config.optimization.learning_rate) == (64000, 0.01)
    assert small.config.optimization.learning_rate == 0.02 and large.config.optimization.learning_rate == 0.005
    assert large.config.tokens == 64 * round(1000 * 4**0.6) and small.config.tokens == 64 * round(1000 * 4**-0.6)
    fixed = make_members(configure(width="16,64", tokens=64010))
    assert [m.config.tokens for m in fixed] == [64010, 64010]


def test_members_that_differ_in_what_their_method_ignores_are_one(configure):
    members = make_members(configure(architecture="topk,relu", aux_k="4,8", l1_coefficient="2,5"))
    assert [m.name for m in members] == [
        "architecturetopk_aux_k4",
        "architecturetopk_aux_k8",
        "architecturerelu_l1_coefficient2",
        "architecturerelu_l1_coefficient5",
    ]


def test_switches_that_do_nothing_beside_others_make_no_members(configure):
    members = make_members(configure(adversary="0,0.1", adversary_k="2,3"))
    assert [m.name for m in members] == ["adversary0", "adversary0.1_adversary_k2", "adversary0.1_adversary_k3"]
    with pytest.raises(InputError, match="--l1_coefficient=0: .*--target_l0=0"):
        make_members(configure(architecture="relu", l1_coefficient="0"))


def test_a_member_may_have_a_list_of_its_own(configure):
    for architecture in ("matryoshka", "hierarchical_topk"):
        (member,) = make_members(configure(architecture=architecture))
        assert member.config.method.prefixes == member.config.method.ranks == ()
    members = make_members(configure(architecture="matryoshka", width="64", prefixes='"8,64","16,32,64"'))
    assert [m.config.method.prefixes for m in members] == [(8, 64), (16, 32, 64)]
    assert [m.name for m in members] == ["prefixes8-64", "prefixes16-32-64"]


def test_a_switch_of_no_member_is_refused_and_one_of_some_is_said(configure, capsys):
    message = r"--bandwidth=1: does nothing in any member \(--architecture=topk,relu\)"
    with pytest.raises(InputError, match=message):
        make_members(configure(architecture="topk,relu", bandwidth="1"))
    assert len(make_members(configure(architecture="topk,jumprelu", bandwidth="1"))) == 2
    assert "--bandwidth is not for members of --architecture=topk." in capsys.readouterr().err


def test_transcoders_are_no_members(configure):
    with pytest.raises(InputError, match="--writes=b: members of a sweep are autoencoders of one site"):
        make_members(configure(reads="a", writes="b"))


def test_a_list_without_quotes_is_told_of_them(configure):
    with pytest.raises(InputError, match="member prefixes16: .*must end with --width=64.* a member's own is quoted"):
        make_members(configure(architecture="matryoshka", width="64", prefixes="16,64"))


def test_held_out_members_go_by_their_names(configure):
    members = make_members(configure(width="32,64", k="4,8", holdout_members="width64_*"))
    assert [m.name for m in members if m.held_out] == ["width64_k4", "width64_k8"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(width=""), "--width=: give one width or more"),
        (dict(k="4,4"), "--k=4,4: 4 stands there twice"),
        (dict(zip="widht", width="32,64"), "widht is no flag of `jaxsae train`. Did you mean width?"),
        (dict(width="32,64", k="4,8,16", zip="width,k"), "the lists must be equally long; --width has 2, --k has 3"),
        (dict(width="32,64", k="4,48"), "member width32_k48: --k=48: must be at most --width=32"),
        (dict(width="32,many"), "--width=many: must be a number"),
        (dict(k="4,few"), "member kfew: flag --k=few"),
        (dict(tokens_exponent=0.6), "--tokens_exponent=0.6: needs --anchor_width"),
        (dict(learning_rate_exponent=-0.5, learning_rate="", anchor_width=64), "needs --learning_rate"),
        (dict(width="32,64", holdout_members="width128"), "--holdout_members=width128: no member is called so"),
        (dict(width="32,64", holdout_members="*"), "leaves no member for the fits"),
        (dict(seed="0,-1"), "member seed1: --seed=-1: must be from 0"),
        (dict(seed=",".join(map(str, range(200))), tokens=",".join(map(str, range(640, 740)))), "20,000 members"),
        (dict(evaluate="fvu"), "--evaluate=fvu: give some of reconstruction"),
        (dict(topology="v5p:2x2x1"), "--topology=v5p:2x2x1: needs --dry_run"),
    ],
)
def test_grids_that_are_refused(configure, changes, message):
    with pytest.raises(InputError) as error:
        make_members(configure(**changes))
    assert message in str(error.value)


def test_a_flag_that_is_none_is_refused_with_a_suggestion(flags, capsys):
    assert cli.run(["sweep", *flags(), "--widht=64"]) == 2
    assert "width" in capsys.readouterr().err
