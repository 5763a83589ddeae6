"""docs/TRANSFER.md: its arms are commands that compose, its tables and entries belong together."""

from hydra.core.override_parser.overrides_parser import OverridesParser

from cnnlab import config
from scripts import ledger, transfer
from scripts.ledger import configuration


def test_every_arm_is_a_recipe_of_its_own() -> None:
    arms = transfer.arms()
    assert len({arm.recipe for arm in arms}) == len({arm.name for arm in arms}) == len(arms) == 21
    known = {arm.recipe: arm.name for arm in arms}
    assert all(known.get(entry["recipe"]) == entry["id"] for entry in ledger.read(transfer.LEDGER))


def test_fewer_photos_are_seen_more_often() -> None:
    whole, few = (configuration(*transfer.photo_arm("fine-tune", photos).settings) for photos in (1000, 20))
    assert [phase.epochs for phase in few.phases] == [30 * phase.epochs for phase in whole.phases]
    assert (few.trainer.epochs, few.data.limit) == (30 * whole.trainer.epochs, 40)
    assert [phase.parameters for phase in few.phases] == [phase.parameters for phase in whole.phases]
    assert config.recipe_hash(configuration("experiment=transfer-fine-tune")) == transfer.photo_arm("fine-tune", 1000).recipe


def test_plain_values_are_read_back_as_they_were() -> None:
    value = {"a": [1, 0.5, None, True], "b": {"c": "x.[01].*"}}
    assert OverridesParser.create().parse_override(f"x={transfer.literal(value)}").value() == value


def test_what_the_page_keeps() -> None:
    text = "# Head\n\n<!-- photos -->\nold\n<!-- end -->\n\nText.\n\n<!-- halves -->\nold\n<!-- end -->\nEnd\n"
    found = transfer.page(text)
    assert found.startswith("# Head\n\n<!-- photos -->\n| photos a class |")
    assert found.endswith("<!-- end -->\nEnd\n")
    assert "old" not in found
    assert transfer.page(found) == found
