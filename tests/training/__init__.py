import pytest

pytest.importorskip("torch", reason="needs torch: pip install '.[train]'")
