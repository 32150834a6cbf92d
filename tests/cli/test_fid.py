"""`crgen evaluate --fid`: one more column of the scores, by a network that the user brings."""

from tests.training.noise import write_ombria
from tests.training.score.test_fid import write_network


def test_fid_stands_beside_the_scores_of_every_method(crgen, here, small_images, tiny_weights):
    write_ombria(here / "data", ("0342", "0343"))
    words = ("--data", "data,split=validation", "--weights", tiny_weights, "--painted", "0.5", "--seen", "0.5")
    scored = crgen("evaluate", *words, "--fid", write_network(here))
    assert scored.code == 0
    head, _, *rows = scored.out.split("\n\n")[0].splitlines()
    assert head.endswith("| FID |")
    assert len(rows) == 6
    assert all(float(row.split("|")[-2]) > 0 for row in rows)
