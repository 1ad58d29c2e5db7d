"""The page in a browser: Debian's chromium, driven by Playwright."""

import base64
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from retrieval.commands.demo_gallery import make_gallery
from tests.support.command import retrieve_here
from tests.support.served import lines_of, served
from tests.support.store import Indexed

pytest.importorskip("playwright", reason="Playwright is not installed: pip install playwright")
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, Route, expect, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium: apt install chromium")

_DROP = """async ([bytes, name]) => {
  const data = new DataTransfer();
  data.items.add(new File([Uint8Array.from(atob(bytes), (c) => c.charCodeAt(0))], name));
  for (const kind of ["dragover", "drop"]) {
    document.body.dispatchEvent(new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true }));
  }
}"""
_PASTE = _DROP.replace(
    """for (const kind of ["dragover", "drop"]) {
    document.body.dispatchEvent(new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true }));
  }""",
    """document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true }));""",
)
GLANCED = "main:is([data-explained=glance], [data-explained=true])"
SETTLED = "main[data-explained=true]"
WHOLES = "The pictures match as wholes: no region of either matters by itself."
_ALPHA = """(canvas) => {
  const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  const alphas = data.filter((_, place) => place % 4 === 3);
  return [Math.min(...alphas), Math.max(...alphas)];
}"""


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Index the demo's gallery; return its store and its query picture."""
    folder = tmp_path_factory.mktemp("demo")
    gallery, query = make_gallery(folder)
    done = retrieve_here("index", gallery, "--store", folder / ".retrieve")
    assert done.returncode == 0, done.stderr.decode()
    return folder / ".retrieve", query


@pytest.fixture(scope="module")
def address(demo: tuple[Path, Path]) -> Iterator[str]:
    with served(demo[0]) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def open_page(browser: Browser, **options: Any) -> Iterator[Page]:
    """Open a page in a fresh context; its console must stay empty: no error, no refused script or style."""
    with browser.new_context(**options) as context:
        page = context.new_page()
        messages: list[str] = []

        def record(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning") and "willReadFrequently" not in message.text:  # of `_ALPHA`
                messages.append(message.text)

        page.on("console", record)
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.set_default_timeout(30_000)
        yield page
        assert messages == []


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    yield from open_page(browser, viewport={"width": 1280, "height": 900})


def give(page: Page, script: str, picture: Path) -> None:
    """Drop or paste a picture."""
    page.evaluate(script, [base64.b64encode(picture.read_bytes()).decode(), picture.name])


def search(page: Page, address: str, picture: Path, wait_for: str = GLANCED) -> None:
    """Open the page, drop a picture, and wait for heatmaps of all hits."""
    page.goto(address)
    expect(page.locator(".grid img").first).to_be_visible()
    give(page, _DROP, picture)
    page.wait_for_selector(wait_for)


def names(page: Page) -> list[str]:
    return page.locator("article h3 a").all_inner_texts()


def serious(page: Page) -> list[str]:
    """Return the serious and critical violations that axe-core finds."""
    violations = Axe().run(page).response["violations"]
    return [
        f"{each['id']}: {each['nodes'][0]['html']}" for each in violations if each["impact"] in ("serious", "critical")
    ]


def test_a_dropped_picture_has_hits_and_four_heatmaps(page: Page, address: str, demo: tuple[Path, Path]) -> None:
    search(page, address, demo[1])
    assert "upload=" in page.url
    first = page.locator("article").first
    expect(first.locator(".percent")).to_have_text("100.0 %")
    expect(first.locator(".facts")).to_contain_text("same kind 9")
    expect(page.locator(".doubt")).to_have_count(0)
    expect(first.locator(".verdict")).to_have_text("similar")
    expect(first.locator(".facts")).to_contain_text("rank 1 in the index")
    images = first.locator("img")
    assert images.count() == 2
    for place in range(2):
        assert images.nth(place).evaluate("(image) => image.complete && image.naturalWidth") > 0
    for kind in ("factual", "counterfactual"):
        page.locator(f"input[value={kind}]").check(force=True)
        heated = page.locator("article").filter(
            has=page.locator(f"figure[data-kind={kind}] + figure[data-kind={kind}]")
        )
        expect(heated.first).to_be_visible()
        drawn = [heated.nth(place).locator(".heat") for place in range(heated.count())]
        strongest = [[side.nth(place).evaluate(_ALPHA)[1] for place in range(2)] for side in drawn]
        assert max(map(min, strongest)) > 20  # of one hit at least both pictures have evidence
    page.locator("input[value=picture]").check(force=True)
    expect(page.locator("article").first.locator("figure[data-kind=picture]")).to_have_count(2)
    last = page.locator("article").last
    last.scroll_into_view_if_needed()  # what is not in view is drawn when it comes there
    expect(last.locator("figure[data-kind=picture]")).to_have_count(2)


def test_a_picture_may_be_pasted_or_chosen(page: Page, address: str, demo: tuple[Path, Path]) -> None:
    page.goto(address)
    give(page, _PASTE, demo[1])
    page.wait_for_selector(GLANCED)
    pasted = names(page)
    page.goto(address)
    page.set_input_files("#file", demo[1])
    page.wait_for_selector(GLANCED)
    assert names(page) == pasted


def test_the_slider_changes_how_strongly_heat_is_laid_over(page: Page, address: str, demo: tuple[Path, Path]) -> None:
    search(page, address, demo[1])
    heat = page.locator(".heated .heat").first
    slider = page.get_by_label("Overlay")
    for value, opacity in (("0", 0), ("50", 0.5), ("100", 1)):
        slider.fill(value)
        expect(heat).to_have_css("opacity", str(opacity))
    slider.focus()
    page.keyboard.press("ArrowLeft")
    expect(heat).to_have_css("opacity", "0.99")


def test_pointing_at_a_place_highlights_what_corresponds(page: Page, address: str, demo: tuple[Path, Path]) -> None:
    search(page, address, demo[1])
    card = page.locator("article").nth(1)
    seen = card.locator(".seen")
    expect(seen.first).to_have_attribute("role", "slider", timeout=30_000)  # once it is settled
    seen.first.hover(position={"x": 60, "y": 60})
    for place in range(2):
        expect(card.locator(".frame").nth(place)).to_have_class("frame heated pointed")
        least, most = card.locator(".lit").nth(place).evaluate(_ALPHA)
        assert (least, most) == (pytest.approx(0, abs=40), pytest.approx(204, abs=90))
    before = card.locator(".lit").nth(1).evaluate("(canvas) => canvas.toDataURL()")
    page.mouse.move(5, 5)
    expect(card.locator(".frame").first).to_have_class("frame heated")
    seen.first.focus()
    page.keyboard.press("ArrowDown")
    at = str(seen.first.get_attribute("aria-valuetext"))
    page.keyboard.press("ArrowRight")
    expect(seen.first).to_have_attribute("aria-valuetext", f"{at[:-1]}{int(at[-1]) + 1}")
    expect(page.locator("#announcer")).to_contain_text("Corresponds most to row")
    assert card.locator(".lit").nth(1).evaluate("(canvas) => canvas.toDataURL()") != before


def test_filters_are_in_the_address_and_back_undoes_them(page: Page, address: str, demo: tuple[Path, Path]) -> None:
    search(page, address, demo[1])
    before, url = names(page), page.url
    labels = page.get_by_label("Label").locator("option").all_inner_texts()
    page.get_by_label("Label").select_option(labels[-1])
    page.wait_for_selector(GLANCED)
    assert f"label={labels[-1]}" in page.url.replace("+", " ")
    assert set(page.locator(".facts span", has_text="label").all_inner_texts()) == {f"label {labels[-1]}"}
    expect(page.locator(".doubt")).to_contain_text("looks like this one")  # no other cup is left
    page.go_back()
    expect(page).to_have_url(url)
    expect(page.locator("article h3 a")).to_have_text(before)
    page.get_by_label("Least similarity").fill("99")
    page.get_by_label("Least similarity").dispatch_event("change")
    expect(page.locator("article")).not_to_have_count(len(before))
    shares = [float(each.removesuffix(" %")) for each in page.locator(".percent").all_inner_texts()]
    assert shares
    assert min(shares) >= 99
    page.get_by_role("button", name="Clear").click()
    expect(page.locator("article")).to_have_count(len(before))


def test_a_shared_link_shows_the_same(page: Page, browser: Browser, address: str, demo: tuple[Path, Path]) -> None:
    search(page, address, demo[1])
    page.locator("input[value=counterfactual]").check(force=True)
    for other in open_page(browser):
        other.goto(page.url)
        other.wait_for_selector(GLANCED)
        assert names(other) == names(page)
        assert other.locator("input[value=counterfactual]").is_checked()


def test_any_picture_can_be_the_query_and_back_leads_back(page: Page, address: str) -> None:
    page.goto(address)
    first = page.locator(".grid a").first
    name = first.inner_text()
    first.click()
    page.wait_for_selector(GLANCED)
    expect(page.locator("h2 b")).to_have_text(name)
    query = page.url.partition("picture=")[2]
    assert f"picture={query}" not in page.locator(".actions a:first-child").evaluate_all(
        "(all) => all.map((a) => a.search.slice(1))"
    )
    page.get_by_role("link", name="Search from this").first.click()
    page.wait_for_selector(GLANCED)
    page.go_back()
    expect(page.locator("h2 b")).to_have_text(name)
    page.go_back()
    expect(page.locator(".grid img").first).to_be_visible()


def test_one_hit_is_shown_by_every_method_and_checked(page: Page, address: str, demo: tuple[Path, Path]) -> None:
    search(page, address, demo[1])
    page.locator("article").nth(5).get_by_role("link", name="All methods").click()
    page.wait_for_selector(SETTLED)
    assert page.locator(".method[data-method]").count() == 11
    for method in ("ensemble", "gradcam"):
        assert page.locator(f".method[data-method={method}] canvas.heat").count() == 4
    expect(page.locator(".facts")).to_contain_text("same kind")
    expect(page.locator("main")).to_contain_text("% by the model alone")
    expect(page.locator(".method h3").nth(1)).to_contain_text("the paper’s Grad-CAM")
    expect(page.locator(".checked .support")).to_contain_text("Heatmaps ")
    page.locator(".checked summary").click()
    assert page.locator(".checked tbody tr").count() >= 4
    expect(page.get_by_role("button", name="Make it")).to_have_count(2)


def test_heatmaps_are_checked_on_request(page: Page, address: str, demo: tuple[Path, Path]) -> None:
    search(page, address, demo[1])
    page.goto(page.url + "&top=2")
    page.wait_for_selector(GLANCED)
    assert page.locator(".checked summary").count() == 0
    page.get_by_label("Check the heatmaps").check()
    page.locator(".checked summary").nth(1).wait_for()
    assert "verify=1" in page.url


def test_heatmaps_appear_at_first_glance_and_then_settle(page: Page, address: str, demo: tuple[Path, Path]) -> None:
    def look() -> tuple[set[str], set[int], list[int]]:
        """Return the words beside the hits, the sides of the canvases in view, and where each card ends."""
        near = page.locator("article").filter(has=page.locator("figure[data-kind=factual]"))
        sides = near.locator(".heat").evaluate_all("(all) => all.map((heat) => heat.width)")
        ends = page.locator("article").evaluate_all("(all) => all.map((each) => each.offsetTop + each.offsetHeight)")
        return set(near.locator(".glance").all_inner_texts()), set(sides), ends

    few = "method=occlusion&top=4&"
    page.route("**/api/query?*", lambda route: route.continue_(url=route.request.url.replace("top=12&", few)))
    search(page, address, demo[1], "main[data-explained=glance]")
    words, sides, ends = look()
    assert (words, sides) == ({"first glance"}, {7 * 8})
    page.wait_for_selector(SETTLED)
    assert look() == ({""}, {28 * 8}, ends)
    expect(page.locator("#announcer")).to_have_text("All heatmaps are ready.")


def test_heatmaps_that_do_not_hold_are_marked_at_first_sight(page: Page, address: str, demo: tuple[Path, Path]) -> None:
    def change(route: Route) -> None:
        answer = route.fetch(url=route.request.url + "&method=local")
        lines = lines_of(answer.text())
        first, second, third, fourth = (
            each for each in lines if each.get("rank", 0) in range(2, 6) and not each["glance"]
        )
        for line, support in ((first, "not supported"), (second, "weak")):
            line["verification"] = {"support": support, "told": f"Heatmaps {support}.", "headings": ["a"], "rows": []}
        third["wholes"] = third["query"]["missing"] = third["hit"]["missing"] = WHOLES
        fourth["glance"] = "first glance only: the server is busy"
        route.fulfill(response=answer, body="".join(json.dumps(line) + "\n" for line in lines))

    page.route("**/api/query?*", change)
    search(page, address, demo[1], SETTLED)
    cards = [page.locator(f"article[data-rank='{rank}']") for rank in range(2, 6)]
    expect(cards[0].get_by_text("Heatmaps not supported.")).to_be_visible()
    expect(cards[0].locator(".frame").first).to_have_css("outline-style", "dashed")
    expect(cards[1].get_by_text("Heatmaps weak.")).to_be_visible()
    expect(cards[1].locator(".frame").first).to_have_css("outline-style", "none")
    cards[2].scroll_into_view_if_needed()
    expect(cards[2].get_by_text(WHOLES)).to_have_count(1)
    expect(cards[2].locator("figure[data-kind=picture]")).to_have_count(2)
    expect(cards[3].locator(".glance")).to_have_text("first glance only: the server is busy")
    expect(page.locator("#announcer")).to_have_text("1 hit has a first glance only: the server is busy.")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert serious(page) == []


def test_a_result_can_be_saved(page: Page, address: str, demo: tuple[Path, Path]) -> None:
    search(page, address, demo[1])
    page.goto(page.url + "&top=2")
    page.wait_for_selector(GLANCED)
    with page.expect_download() as download:
        page.get_by_role("link", name="Save as a page").click()
    text = Path(download.value.path()).read_text("utf-8")
    assert text.count("<article>") == page.locator("article").count()


def test_a_file_that_is_no_picture_is_reported(browser: Browser, address: str, tmp_path: Path) -> None:
    (tmp_path / "no.jpg").write_text("no picture")
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(address)
        page.set_input_files("#file", tmp_path / "no.jpg")
        expect(page.get_by_role("alert")).to_contain_text("is not a picture in a known format")
        page.goto(address + "?upload=" + "0" * 64)
        expect(page.get_by_role("alert")).to_contain_text("drop it again")


@pytest.mark.parametrize(
    ("dropped", "is_folder", "message"),
    [
        ("new File(['a'], 'a.jpg')", True, "That was a folder"),
        ("new File(['a'], 'a.jpg'), new File(['b'], 'b.jpg')", False, "Those were several files"),
        ("", False, "That was not a file"),
    ],
)
def test_what_was_dropped_in_place_of_a_picture_is_named(
    page: Page, address: str, dropped: str, is_folder: bool, message: str
) -> None:
    page.goto(address)
    expect(page.locator(".grid img").first).to_be_visible()
    page.evaluate(f"""() => {{
      if ({json.dumps(is_folder)}) DataTransferItem.prototype.webkitGetAsEntry = () => ({{ isDirectory: true }});
      const data = new DataTransfer();
      for (const file of [{dropped}]) data.items.add(file);
      if (!data.items.length) data.items.add("a text", "text/plain");
      document.body.dispatchEvent(new DragEvent("drop", {{ dataTransfer: data, bubbles: true, cancelable: true }}));
    }}""")
    expect(page.get_by_role("alert")).to_contain_text(message)


def test_all_requests_stay_below_the_path_that_a_proxy_has_the_server_at(page: Page, address: str) -> None:
    below, requests = address + "retrieve/", list[str]()
    page.route("**/*", lambda route: route.continue_(url=route.request.url.replace(below, address)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(below)
    page.locator(".grid a").first.click()
    page.wait_for_selector(GLANCED)
    page.get_by_role("link", name="API").click()
    operation = page.locator("#operations-running-health_health_get")
    operation.locator("button.opblock-summary-control").click()
    operation.get_by_role("button", name="Execute").click()
    expect(operation.locator(".live-responses-table .response-col_status").last).to_contain_text("200")
    assert {url for url in requests if not url.startswith((below, "blob:", "data:"))} == set()


def test_names_are_only_ever_text(browser: Browser, indexed: Indexed) -> None:
    with served(indexed.store) as address:
        for page in open_page(browser):
            page.goto(address + "?label=odd")
            expect(page.locator(".grid .name").filter(has_text="[red]<b>&.png")).to_be_visible()
            page.locator(".grid a").filter(has_text="[red]<b>&.png").click()
            page.wait_for_selector(GLANCED)
            expect(page.locator("h2 b")).to_have_text("[red]<b>&.png")


@pytest.mark.parametrize("width", [360, 1280])
def test_every_view_is_accessible_and_fits(browser: Browser, address: str, demo: tuple[Path, Path], width: int) -> None:
    for page in open_page(browser, viewport={"width": width, "height": 800}):
        search(page, address, demo[1])
        results = page.url
        hit = page.locator("article h3 a").nth(4).get_attribute("href")
        for view, ready in (
            (results, GLANCED),
            (results + "&verify=1&top=2", ".checked summary"),
            (address + str(hit), SETTLED),
            (address + "?show=duplicates", ".groups"),
            (address, ".grid img"),
        ):
            page.goto(view)
            page.wait_for_selector(ready)
            page.locator("details").evaluate_all("(all) => all.forEach((each) => { each.open = true; })")
            for scheme in ("light", "dark"):
                page.emulate_media(color_scheme=scheme)
                assert serious(page) == []
                assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_everything_can_be_reached_by_keyboard(page: Page, address: str, demo: tuple[Path, Path]) -> None:
    search(page, address, demo[1])
    page.reload()
    page.wait_for_selector(GLANCED)
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("(document.activeElement.name || document.activeElement.textContent).trim()"))
    assert {"Skip to the pictures", "Gallery", "Duplicates", "label", "view", "strength", "Search from this"} <= reached


def test_the_documentation_of_the_api_is_shown(page: Page, address: str) -> None:
    page.goto(address + "docs")
    expect(page.get_by_text("/api/query").first).to_be_visible()
