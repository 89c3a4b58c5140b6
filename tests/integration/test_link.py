"""The link: kernels that run on another host, over one port."""

import pytest
import zmq.auth

from harness import Site


@pytest.fixture(scope="module")
def site():
    site = Site()
    yield site
    site.close()


def test_keys(site):
    """Made, shown, allowed and revoked; pyzmq's certificates are ours and ours are pyzmq's; errors are one line."""
    directory = site.root / "config" / "cellwall"
    site.run("key", "new", "laptop", check=True)
    public, secret = zmq.auth.load_certificate(directory / "laptop.key_secret")
    assert zmq.auth.load_certificate(directory / "laptop.key") == (public, None)
    assert (directory / "laptop.key_secret").stat().st_mode & 0o7777 == 0o600
    assert site.run("key", "show", "laptop", check=True).stdout.strip() == public.decode()
    theirs, _ = zmq.auth.create_certificates(site.root, "theirs")
    site.run("key", "allow", theirs, check=True)
    site.run("key", "allow", directory / "laptop.key", "--as", "anna", check=True)
    assert "anna" in site.run("key", "show", check=True).stdout
    site.run("key", "revoke", "anna", check=True)
    for wrong in (
        ("new", "laptop"),
        ("new", "../x"),
        ("allow", theirs),
        ("allow", "/nowhere.key"),
        ("allow", "/etc/passwd", "--as", "x"),
        ("revoke", "anna"),
    ):
        result = site.run("key", *wrong)
        assert result.returncode == 1
        assert result.stderr.startswith("cellwall key: ") and result.stderr.count("\n") == 1, result.stderr
        assert secret.decode() not in result.stderr + result.stdout
