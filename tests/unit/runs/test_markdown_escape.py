import pytest

from resnet_demo.runs.markdown_escape import literal


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a cat, 50 %: fine.", "a cat, 50 %: fine."),
        ("*a* _b_ `c`", r"\*a\* \_b\_ \`c\`"),
        ("[x](y) ![](z) <b>", r"\[x\](y) \!\[\](z) \<b\>"),
        ("a | b ~ c $d$ &lt; \\", r"a \| b \~ c \$d\$ \&lt; \\"),
        ("http://x9 HTTPS://x9", r"http\://x9 HTTPS\://x9"),
        ("www.x9.org WWW.x9.org", r"www\.x9.org WWW\.x9.org"),
        ("a@x9.org", r"a\@x9.org"),
        ("one\n\n# two\r\n three", "one # two three"),
    ],
)
def test_other_peoples_words_are_no_markdown(text, told):
    assert literal(text) == told
