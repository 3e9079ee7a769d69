"""Printing results."""

from resnet_demo.cli.common import print_result


def test_a_name_that_is_not_unicode_is_printed_with_its_bytes_escaped(capsys):
    name = b"caf\xe9.png".decode("utf-8", "surrogateescape")
    print_result({"file": name}, f"{name}: cat", as_json=False)
    print_result({"file": name}, "", as_json=True)
    assert capsys.readouterr().out == 'caf\\udce9.png: cat\n{"file": "caf\\udce9.png"}\n'
