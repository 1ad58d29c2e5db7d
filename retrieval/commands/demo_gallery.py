"""The demo's gallery: several views of the photographs that come with scikit-image and scikit-learn."""

from importlib.util import find_spec
from pathlib import Path

from PIL import Image, ImageEnhance, ImageOps

from retrieval.common.errors import GalleryError
from retrieval.model.preprocessing import read_image

_PHOTOGRAPHS = {
    "astronaut": ("skimage/data", "astronaut.png"),
    "cameraman": ("skimage/data", "camera.png"),
    "cat": ("skimage/data", "chelsea.png"),
    "coffee": ("skimage/data", "coffee.png"),
    "coins": ("skimage/data", "coins.png"),
    "flower": ("sklearn/datasets/images", "flower.jpg"),
    "galaxies": ("skimage/data", "hubble_deep_field.jpg"),
    "moon": ("skimage/data", "moon.png"),
    "motorcycle": ("skimage/data", "motorcycle_left.png"),
    "retina": ("skimage/data", "retina.jpg"),
    "rocket": ("skimage/data", "rocket.jpg"),
    "temple": ("sklearn/datasets/images", "china.jpg"),
}
# Left, top, right and bottom as shares of the photograph, then brightness and contrast.
_VIEWS = (
    (0.00, 0.00, 1.00, 1.00, 1.0, 1.0),
    (0.00, 0.00, 0.75, 0.80, 1.2, 0.9),
    (0.25, 0.00, 1.00, 0.80, 0.7, 1.1),
    (0.00, 0.20, 0.80, 1.00, 0.9, 1.3),
    (0.20, 0.20, 1.00, 1.00, 1.3, 1.0),
    (0.15, 0.10, 0.85, 0.90, 0.6, 0.9),
)
_QUERY_NAME, _QUERY_VIEW = "coffee", (0.08, 0.05, 0.92, 0.95, 0.85, 1.15)


def make_gallery(folder: Path) -> tuple[Path, Path]:
    """Write `gallery/<photograph>/view-N.jpg` and `question.jpg`, a mirrored view that is not in the gallery.

    Return both paths. Raises GalleryError if the photographs are not installed.
    """
    gallery, question = folder / "gallery", folder / "question.jpg"
    try:
        for name in _PHOTOGRAPHS:
            photograph = _photograph(name)
            (gallery / name).mkdir(parents=True, exist_ok=True)
            for number, view in enumerate(_VIEWS, 1):
                _apply_view(photograph, view).save(gallery / name / f"view-{number}.jpg", quality=90)
        ImageOps.mirror(_apply_view(_photograph(_QUERY_NAME), _QUERY_VIEW)).save(question, quality=90)
    except OSError as error:
        raise GalleryError(
            f"{folder} cannot be written ({error.strerror}): choose another folder with --out"
        ) from error
    return gallery, question


def _photograph(name: str) -> Image.Image:
    folder, file = _PHOTOGRAPHS[name]
    package, *inside = folder.split("/")
    spec = find_spec(package)  # this does not import it: to read its pictures, it needs none of its own packages
    try:
        return read_image(Path(str(spec and spec.origin)).parent.joinpath(*inside, file).read_bytes())[0]
    except FileNotFoundError as error:
        raise GalleryError("the demo's photographs are not installed: run `pip install '.[demo]'`") from error


def _apply_view(photograph: Image.Image, view: tuple[float, float, float, float, float, float]) -> Image.Image:
    left, top, right, bottom, brightness, contrast = view
    width, height = photograph.size
    crop = photograph.crop((int(left * width), int(top * height), int(right * width), int(bottom * height)))
    lit = ImageEnhance.Contrast(ImageEnhance.Brightness(crop).enhance(brightness)).enhance(contrast)
    lit.thumbnail((800, 800))
    return lit
