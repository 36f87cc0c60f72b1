"""The page of a score shows the numbers, escapes what the file holds, and loads and runs nothing."""

import base64
import hashlib
import html.parser
import json
import re

import pytest

from lapwing.evaluation.score import score_transcripts
from lapwing.evaluation.transcripts import read_transcripts
from lapwing.report.score_page import printable, score_table, write_score_page

NASTY = '</style></div><script>alert(1)</script><img src="https://example.org/x" onerror=alert(1)>&amp;\'"'


def row(group, *rewards, text="left", **fields):
    steps = [{"view": {"cell": at}, "action": text, "reply": text, "reward": r} for at, r in enumerate(rewards)]
    return {"group": group, "steps": steps, **fields}


@pytest.fixture
def page(tmp_path):
    """Score rows and return the page's text."""

    def make(*rows, **arguments):
        path = tmp_path / "file.jsonl"
        path.write_text("".join(json.dumps(one) + "\n" for one in rows))
        score = score_transcripts(read_transcripts(path), **arguments)
        write_score_page(score, tmp_path / "score.html")
        return (tmp_path / "score.html").read_text("utf-8")

    return make


class Elements(html.parser.HTMLParser):
    """Every tag with its attributes, and the text outside the style."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(data)


def test_the_numbers_of_the_methods_stand_beside_each_step(page):
    text = page(row("g", 0, 1, id="won"), row("g", 0, id="lost"), methods=["dr_grpo", "return_to_go"], modulations=[])
    assert "<strong>won</strong>" in text
    assert "return 1 (+0.5 against its group)" in text
    rows = re.findall(r'<tr><th scope="row">[12]</th>.*?</tr>', text)
    # The steps of the won episode: ½ by dr_grpo, 1 by return_to_go, both in the deepest green.
    assert [re.findall(r'<td class="p5">([^<]*)</td>', one) for one in rows] == [["+0.5", "+1"], ["+0.5", "+1"], []]
    assert '<td class="n5">-0.5</td><td>0</td>' in rows[2]
    assert 'class="text m0p5 m1p5">left<' in rows[0]


def test_what_the_file_holds_is_text(page):
    text = page(row(NASTY, 0, 1, text=NASTY, id=NASTY), row(NASTY, 1, text=NASTY, id="b"))
    elements = Elements(text)
    assert not {"script", "img", "iframe", "object", "link", "base", "form"} & {tag for tag, _ in elements.tags}
    assert not any(name.startswith("on") for _, attributes in elements.tags for name in attributes)
    assert NASTY in "".join(elements.texts)


def test_the_page_loads_nothing_and_allows_its_own_style_only(page):
    text = page(row(0, 0, 1), row(0, 1))
    style = text.partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = next(a["content"] for tag, a in Elements(text).tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    tags = Elements(text).tags
    assert not any({"src", "href", "style"} & set(attributes) for _, attributes in tags)
    assert "url(" not in style
    assert "@import" not in style


def test_every_method_can_be_chosen_and_one_is(page):
    tags = Elements(page(row(0, 0, 1), row(0, 1), methods=["rloo", "grpo"])).tags
    radios = [attributes for tag, attributes in tags if tag == "input"]
    assert [attributes["id"] for attributes in radios] == [f"m{at}" for at in range(len(radios))]
    assert ["checked" in attributes for attributes in radios].index(True) == 1


def test_the_page_says_how_many_episodes_it_leaves_out(page):
    assert "All 2 episodes." in page(row(0, 0), row(0, 1))
    text = page(*(row(0, n) for n in range(60)))
    assert "The first 50 of 60 episodes" in text
    assert text.count("<details id=") == 50


def test_equal_scores_give_equal_bytes(page):
    rows = (row(0, 0, 1), row(0, 1))
    assert page(*rows) == page(*rows)


def test_characters_that_no_page_can_show_are_replaced():
    assert printable("a\x00b\x1bc\u202ed\ud800e\tf\ng") == "a\ufffdb\ufffdc\ufffdd\ufffde\tf\ng"


def test_the_table_has_a_dash_where_there_is_no_number(tmp_path):
    path = tmp_path / "file.jsonl"
    path.write_text(json.dumps(row(0, 1, 0)))
    headings, rows = score_table(score_transcripts(read_transcripts(path), methods=["grpo"], modulations=[]))
    assert headings[-1] == "rank corr. with grpo"
    assert rows == [["grpo", "step", "0", "100.0%", "–", "–"]]
