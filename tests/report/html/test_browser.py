"""report.html in a real browser: it draws, answers, and reports no error."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

DRAWN = "html[data-drawn=yes]"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    api = pytest.importorskip(
        "playwright.sync_api", reason="playwright is missing: pip install 'pyllmc[browser]'"
    )
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no chromium on the PATH: apt-get install chromium")
    with api.sync_playwright() as playwright:
        found = playwright.chromium.launch(
            executable_path=chromium,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking",
                  "--disable-component-update", "--no-first-run"],
        )  # fmt: skip
        yield found
        found.close()


@contextmanager
def opened_offline(browser: Browser, report: Path) -> Iterator[tuple[Page, list[str]]]:
    """A report, opened offline, and what it had to complain about."""
    context = browser.new_context(color_scheme="light", offline=True)
    page = context.new_page()
    trouble: list[str] = []
    page.on("console", lambda message: trouble.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("dialog", lambda dialog: (trouble.append("a label was run"), dialog.dismiss()))
    page.on("request", lambda sent: trouble.append(sent.url))
    page.goto(report.as_uri())
    page.wait_for_selector(DRAWN)
    # Its own file is all that it may ask for.
    assert trouble.pop(0) == report.as_uri()
    yield page, trouble
    context.close()


@pytest.fixture(scope="module")
def opened(browser: Browser, seeded: Path) -> Iterator[tuple[Page, list[str]]]:
    with opened_offline(browser, seeded / "report.html") as found:
        yield found


@pytest.fixture
def page(opened: tuple[Page, list[str]]) -> Iterator[Page]:
    """The opened report with all runs picked, 1280 pixels wide; a message on the console, an error
    or a request to anywhere fails the test."""
    found, trouble = opened
    found.set_viewport_size({"width": 1280, "height": 900})
    found.locator("#pick-all").click()
    yield found
    found.wait_for_timeout(50)
    assert trouble == []


def traces(page: Page, key: str) -> list[dict[str, Any]]:
    """What Plotly has drawn in a chart."""
    return page.evaluate(f"document.getElementById('chart-{key}').data")


def arms(page: Page, key: str) -> set[str]:
    return {trace["meta"]["arm"] for trace in traces(page, key)}


def test_every_chart_is_drawn(page: Page) -> None:
    assert page.locator(".plot").count() == 8
    assert page.locator(".plot .main-svg").count() >= 8
    for box in page.locator(".plot").all():
        shape = box.bounding_box()
        assert shape is not None
        assert shape["width"] > 900
        assert shape["height"] > 150


def test_runs_are_picked_in_every_chart(page: Page) -> None:
    assert arms(page, "loss") == {"dense", "fc1_bw16", "fc2_bw16", "boom"}
    page.locator("#picker label", has_text="FC1-16").click()
    assert arms(page, "loss") == {"dense", "fc2_bw16", "boom"}
    assert arms(page, "forest") == {"fc2_bw16"}
    page.locator("#pick-none").click()
    assert arms(page, "loss") == arms(page, "speed") == set()
    page.locator("#picker label", has_text="Dense").click()
    assert arms(page, "density") == {"dense"}
    page.locator("#pick-all").click()
    assert len(arms(page, "loss")) == 4


def test_training_losses_are_one_click_away(page: Page) -> None:
    before = max(len(trace["x"]) for trace in traces(page, "loss"))
    page.get_by_role("button", name="Training", exact=True).click()
    shown = traces(page, "loss")
    assert {trace["meta"]["view"] for trace in shown} == {"training"}
    assert max(len(trace["x"]) for trace in shown) > before


def test_double_click_shows_the_first_losses_too(page: Page) -> None:
    def top() -> float:
        return page.evaluate("document.getElementById('chart-loss')._fullLayout.yaxis.range[1]")

    page.get_by_role("button", name="Validation", exact=True).click()
    assert top() < 5.9
    page.locator("#chart-loss .nsewdrag").dblclick()
    page.wait_for_function("document.getElementById('chart-loss')._fullLayout.yaxis.range[1] > 6")


def test_theme_follows_the_system_and_the_button(page: Page) -> None:
    def background() -> str:
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    def ink() -> str:
        return page.evaluate("document.getElementById('chart-loss').layout.font.color")

    light, black = background(), ink()
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(f"getComputedStyle(document.body).backgroundColor !== '{light}'")
    dark, white = background(), ink()
    assert white != black
    page.locator("#theme").click()
    assert (background(), ink()) == (light, black)
    page.emulate_media(color_scheme="light")
    page.locator("#theme").click()
    assert (background(), ink()) == (dark, white)


def test_weights_of_another_run_are_chosen(page: Page) -> None:
    assert page.locator("#weights-select option").all_inner_texts()[:2] == [
        "Dense, seed 2",
        "FC1-16, seed 2",
    ]
    assert len(traces(page, "weights")) == 4
    assert page.locator("[data-weights='0']").is_visible()
    page.locator("#weights-select").select_option("1")
    assert page.locator("[data-weights='1']").is_visible()
    assert not page.locator("[data-weights='0']").is_visible()


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_sticks_out_sideways(page: Page, width: int) -> None:
    assert sticking_out(page, width) == 0


def sticking_out(page: Page, width: int) -> int:
    """Pixels that the page is wider than a window of `width`, everything unfolded."""
    page.set_viewport_size({"width": width, "height": 900})
    page.wait_for_timeout(200)
    for details in page.locator("details").all():
        details.evaluate("element => element.open = true")
    return page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_tuning_and_controls_are_drawn_and_picked(
    browser: Browser, tuned: Path, scheme: Literal["light", "dark"]
) -> None:
    with opened_offline(browser, tuned / "report.html") as (page, trouble):
        page.emulate_media(color_scheme=scheme)
        for key in ("rates", "tuned", "controls"):
            shape = page.locator(f"#chart-{key} .main-svg").first.bounding_box()
            assert shape is not None
            assert shape["width"] > 900
            assert shape["height"] > 150
        ticks = page.locator("#chart-controls .ytick").all_text_contents()
        assert ticks == ["random places", "A/A: renamed"]
        assert len(arms(page, "tuned")) == 9
        for label in ("Band, lr 1e-4", "Band, lr 3e-4"):  # the band is best at the second
            page.locator("#picker label", has_text=label).click()
        assert arms(page, "controls") == set()
        assert "band_lr1e-3" in arms(page, "tuned")
        assert not {"band_lr1e-4", "band_lr3e-4"} & arms(page, "tuned")
        assert [sticking_out(page, width) for width in (390, 1280)] == [0, 0]
        assert trouble == []


def test_labels_are_text_whatever_they_hold(page: Page) -> None:
    assert page.locator("img[src=x]").count() == 0
    assert "FC2 </script>" in page.locator("#picker").inner_text()
    ticks = page.locator("#chart-forest .ytick").all_text_contents()
    assert "FC2 </script><img src=x…rt(1)> $x$ & <b>" in "".join(ticks)
