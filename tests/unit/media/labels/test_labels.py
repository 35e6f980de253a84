"""Labels: every result says that it is synthetic, in a way that programs of others read, and that shows changes."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import c2pa
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from lipwright.config import LabelsConfig
from lipwright.errors import ConfigError, LabelError
from lipwright.media.audio_parts import AudioPart
from lipwright.media.decoding.decoder import Decoders
from lipwright.media.labels.credentials import load_credentials
from lipwright.media.labels.inspection import Manifest, Verdict, inspect_labels
from lipwright.media.labels.labeller import AIGC_FIELDS, Labeller, result_tags
from lipwright.media.labels.signer import PURPOSES, ManifestSigner, Provenance, has_manifest
from lipwright.media.labels.watermark import TEXTS, Corner, Watermark, WatermarkStyle, _draw_texts
from lipwright.media.preview import LivePreview, finished_preview
from lipwright.media.probe import ColourTags
from lipwright.media.result.concat import concat_segments
from lipwright.media.result.sound_mix import ResultSound
from lipwright.media.yuv_frame import YuvFrame
from tests.manifest_box import without_manifest
from tests.timestamp_authority import timestamp_authority
from tests.unit.media.clips import LIMITS, decode_all, flat_planes, info_of, noise, planes_of, write_audio
from tests.unit.segmented_job import NUM_FRAMES, SegmentedJob

TAGGED = LabelsConfig(producer="演示公司", propagator="P")
FPS = Fraction(200)  # too short a video for a search for the invisible watermark, which takes seconds


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> SegmentedJob:
    return SegmentedJob(tmp_path_factory.mktemp("job"), FPS)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def signer(data_dir: Path) -> ManifestSigner:
    return ManifestSigner(load_credentials(LabelsConfig(), data_dir))


@pytest.fixture
def result(job: SegmentedJob, data_dir: Path, tmp_path: Path) -> Path:
    """The job's result as `Studio.join` makes it."""
    labeller, out, info = Labeller(TAGGED, data_dir), tmp_path / "result.mp4", info_of(192, 128, FPS)
    sound = write_audio(tmp_path / "a.wav", noise(0.4, 16000)[None], 16000, "pcm_s16le", sample_format="s16")
    sounds = ResultSound([AudioPart(sound)])
    concat_segments(job.segments, sounds, out, info, NUM_FRAMES, tags=result_tags(TAGGED, "ab12"))
    labeller.sign(out, Provenance(from_still=False))
    return out


def _signed(job: SegmentedJob, labeller: Labeller, out: Path) -> Path:
    out.write_bytes(job.result.read_bytes())
    labeller.sign(out, Provenance(from_still=False))
    return out


def _manifest(path: Path, trusted: str | None = None) -> Manifest:
    manifest = inspect_labels(path, LIMITS, trusted).manifest
    assert manifest is not None
    return manifest


def _aigc(path: Path) -> dict[str, str]:
    with av.open(str(path)) as container:
        return dict(json.loads(container.metadata["AIGC"]))


def test_labeller_result_is_tagged_and_signed(job: SegmentedJob, result: Path) -> None:
    found = _aigc(result)
    assert tuple(found) == AIGC_FIELDS
    assert found["Label"] == "1"
    assert (found["ContentProducer"], found["ProduceID"]) == ("演示公司", "ab12")
    assert (found["ContentPropagator"], found["PropagateID"]) == ("P", "ab12")
    assert inspect_labels(result, LIMITS).verdict is Verdict.SYNTHETIC
    manifest = _manifest(result)
    assert (manifest.state, manifest.is_test, manifest.problems) == ("Valid", True, ())
    assert manifest.source_types == ("compositeWithTrainedAlgorithmicMedia",)
    assert [pts for pts, _ in decode_all(result)] == [pts for pts, _ in decode_all(job.result)]


def test_labeller_preview_is_tagged(job: SegmentedJob, tmp_path: Path) -> None:
    tags = result_tags(TAGGED, "ab12")
    live = LivePreview(job.segments[0], job.speech, tags)
    (tmp_path / "live.mp4").write_bytes(b"".join(each for path in job.segments for each in live.add_segment(path)))
    (tmp_path / "finished.mp4").write_bytes(b"".join(piece for _, piece in finished_preview(job.result, tags)))
    for name in ("live.mp4", "finished.mp4"):
        assert _aigc(tmp_path / name)["Label"] == "1"
        assert inspect_labels(tmp_path / name, LIMITS).verdict is Verdict.SYNTHETIC


def test_manifest_has_watermark_and_source(job: SegmentedJob, signer: ManifestSigner, tmp_path: Path) -> None:
    first, second, portrait = (tmp_path / f"{name}.mp4" for name in ("first", "second", "portrait"))
    signer.sign(job.result, first, Provenance(from_still=False, watermark_id="0123456789abcdef"))
    signer.sign(job.segments[0], second, Provenance(from_still=False, source=first))
    signer.sign(job.segments[0], portrait, Provenance(from_still=True, source=first))
    named, edited = _manifest(first), _manifest(second)
    assert (named.state, named.watermark_id) == ("Valid", "0123456789abcdef")
    assert (edited.state, edited.watermark_id) == ("Valid", "")
    assert _manifest(portrait).source_types == ("trainedAlgorithmicMedia",)
    for path, relationship in ((second, "parentOf"), (portrait, "inputTo")):
        active, manifests = _manifests(path)
        (ingredient,) = active["ingredients"]
        assert (ingredient["relationship"], len(manifests)) == (relationship, 2)
        assert manifests[ingredient["active_manifest"]]["instance_id"] == _manifests(first)[0]["instance_id"]


def test_has_manifest(
    job: SegmentedJob, signer: ManifestSigner, decoders: Decoders, tmp_path: Path, sample_portrait: Path
) -> None:
    signed, broken = tmp_path / "signed.mp4", tmp_path / "broken.mp4"
    signer.sign(job.result, signed, Provenance(from_still=False))
    broken.write_bytes(signed.read_bytes()[:2000])
    for path in (signed, broken, job.result, sample_portrait):
        assert decoders.run(partial(has_manifest, path), file=path, timeout_s=60) == (path == signed)


def test_labeller_timestamp_url_adds_a_time_stamp(job: SegmentedJob, data_dir: Path, tmp_path: Path) -> None:
    with timestamp_authority(tmp_path) as url:
        labeller = Labeller(LabelsConfig(timestamp_url=url), data_dir)
        out = _signed(job, labeller, tmp_path / "out.mp4")
    stamped = datetime.fromisoformat(_manifests(out)[0]["signature_info"]["time"])
    assert abs(datetime.now(UTC) - stamped) < timedelta(minutes=5)
    assert _manifest(out).state == "Valid"
    before, names = out.read_bytes(), sorted(tmp_path.iterdir())
    with pytest.raises(LabelError, match="could not be signed by .*TEST"):  # the authority is gone
        labeller.sign(out, Provenance(from_still=False))
    assert (out.read_bytes(), sorted(tmp_path.iterdir())) == (before, names)


def _manifests(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The active manifest of a file, and all by their names."""
    with path.open("rb") as file, c2pa.Reader("video/mp4", file) as reader:
        store = json.loads(reader.json())
    return store["manifests"][store["active_manifest"]], store["manifests"]


def test_signatures_differ_only_in_the_manifest(job: SegmentedJob, signer: ManifestSigner, tmp_path: Path) -> None:
    paths = tmp_path / "a.mp4", tmp_path / "b.mp4"
    for path in paths:
        signer.sign(job.result, path, Provenance(from_still=False))
    first, second = (path.read_bytes() for path in paths)
    assert len(first) == len(second)
    assert without_manifest(first) == without_manifest(second) != first


def test_inspect_labels_changed_video_is_broken(result: Path) -> None:
    changed = bytearray(result.read_bytes())
    changed[-2000] ^= 1
    result.write_bytes(changed)
    labels = inspect_labels(result, LIMITS)
    assert labels.verdict is Verdict.BROKEN
    assert _manifest(result).problems == ("assertion.bmffHash.mismatch",)
    assert "the file was changed" in labels.describe()[0]


def test_inspect_labels_without_or_with_invalid_tags(job: SegmentedJob, tmp_path: Path) -> None:
    sound = write_audio(tmp_path / "a.wav", noise(0.1, 16000)[None], 16000, "pcm_s16le", sample_format="s16")
    for path in (job.result, sound):
        assert inspect_labels(path, LIMITS).verdict is Verdict.UNLABELLED
    for number, text in enumerate(("yes", "[1]", '{"a": 1}', "[" * 100_000, r'{"Label": "\ud800"}')):
        path = tmp_path / f"{number}.mp4"
        path.write_bytes(b"".join(piece for _, piece in finished_preview(job.result, {"AIGC": text})))
        assert inspect_labels(path, LIMITS).verdict is Verdict.BROKEN


def test_labeller_switched_off_writes_nothing(job: SegmentedJob, tmp_path: Path) -> None:
    off, before = LabelsConfig(metadata=False, c2pa=False), job.result.read_bytes()
    Labeller(off, tmp_path / "none").sign(job.result, Provenance(from_still=True))
    assert (result_tags(off, "ab"), job.result.read_bytes()) == ({}, before)
    assert not (tmp_path / "none").exists()


def test_load_credentials_test_certificate_is_private_and_reused(data_dir: Path) -> None:
    first, second = (load_credentials(LabelsConfig(), data_dir) for _ in range(2))
    assert first == second
    assert first.is_test
    assert "TEST" in first.signer and "PRIVATE" not in repr(first)
    (file,) = (data_dir / "labels").iterdir()
    assert file.stat().st_mode & 0o077 == 0


class Authority:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = _name("Example CA")
        self.certificate = (
            self._builder(self.name, self.key, 1000)
            .add_extension(x509.BasicConstraints(True, None), True)
            .add_extension(x509.KeyUsage(False, False, False, False, False, True, True, False, False), True)
            .sign(self.key, SHA256())
        )
        self.pem = self.certificate.public_bytes(Encoding.PEM)

    def settings(
        self, days: int = 100, purpose: x509.ObjectIdentifier = ExtendedKeyUsageOID.EMAIL_PROTECTION
    ) -> LabelsConfig:
        """Those of an operator with a certificate of this authority."""
        key = ec.generate_private_key(ec.SECP256R1())
        signer = (
            self._builder(_name("Example Studio"), key, days)
            .add_extension(x509.BasicConstraints(False, None), True)
            .add_extension(x509.KeyUsage(True, False, False, False, False, False, False, False, False), True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), False)
            .sign(self.key, SHA256())
        )
        chain, private = self._folder / "chain.pem", self._folder / "key.pem"
        chain.write_bytes(signer.public_bytes(Encoding.PEM) + self.pem)
        private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
        return LabelsConfig(certificate=chain, private_key=private)

    def _builder(self, name: x509.Name, key: ec.EllipticCurvePrivateKey, days: int) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder(self.name, name, key.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(now - timedelta(days=10)).not_valid_after(now + timedelta(days=days))
        return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)


def _name(common: str) -> x509.Name:
    names = ((NameOID.COMMON_NAME, common), (NameOID.ORGANIZATION_NAME, "Example"))
    return x509.Name([x509.NameAttribute(kind, value) for kind, value in names])


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.mark.parametrize("purpose", PURPOSES)
def test_labeller_certificate_is_trusted(job: SegmentedJob, authority: Authority, tmp_path: Path, purpose: str) -> None:
    labeller = Labeller(authority.settings(purpose=x509.ObjectIdentifier(purpose)), tmp_path)
    labeller.check_signing()
    out = _signed(job, labeller, tmp_path / "out.mp4")
    unknown, trusted = _manifest(out), _manifest(out, authority.pem.decode())
    assert (unknown.state, trusted.state) == ("Valid", "Trusted")
    assert (trusted.signer, trusted.is_test) == ("Example Studio", False)
    assert not (tmp_path / "labels").exists(), "no test certificate is made"


def test_labeller_unusable_certificate_is_refused(authority: Authority, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not valid now, only from"):
        Labeller(authority.settings(days=-1), tmp_path)
    good, other = authority.settings(), authority.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for key, message in ((other, "does not match the first certificate"), (b"none", "expected a PEM key")):
        (tmp_path / "key.pem").write_bytes(key)
        with pytest.raises(ConfigError, match=message):
            Labeller(good, tmp_path)
    (tmp_path / "key.pem").unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        Labeller(good, tmp_path)
    with pytest.raises(ConfigError, match="not accepted for signing"):
        Labeller(authority.settings(purpose=ExtendedKeyUsageOID.SERVER_AUTH), tmp_path).check_signing()
    with pytest.raises(ValueError, match="or neither"):
        LabelsConfig(certificate=tmp_path / "chain.pem")


SIZES = [(1920, 1080), (640, 360), (360, 640), (512, 512), (64, 64), (16, 16), (16, 64), (640, 16)]


def _marked(before: YuvFrame, *corners: Corner, language: str = "en", **changes: Any) -> YuvFrame:
    after = YuvFrame(*(plane.copy() for plane in before))
    height, width = before.y.shape
    Watermark(info_of(width, height, **changes), WatermarkStyle(language, 0.05), corners).draw(after)
    return after


def _box(before: YuvFrame, after: YuvFrame) -> tuple[int, int, int, int]:
    """The smallest one in luma pixels that holds every change: x0, y0, x1, y1."""
    changed = before.y != after.y
    for small, was in ((after.u, before.u), (after.v, before.v)):
        changed |= np.repeat(np.repeat(small != was, 2, axis=0), 2, axis=1)
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


@pytest.mark.parametrize("language", TEXTS)
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_watermark_is_in_its_corner_at_every_size(width: int, height: int, language: str) -> None:
    before = planes_of(3, width, height)
    x0, y0, x1, y1 = _box(before, _marked(before, "bottom_right", language=language))
    assert x1 > width / 2 and y1 > height / 2
    assert 0 < (x1 - x0) * (y1 - y0) <= width * height
    if min(width, height) >= 360:
        assert (x1 - x0) * (y1 - y0) < 0.12 * width * height
        assert x0 > width * 0.3 and y0 > height * 0.8


@pytest.mark.parametrize("language", TEXTS)
def test_watermark_letters_have_the_required_height(language: str) -> None:
    text, cap_rows = _draw_texts()[0][language], _draw_texts()[1]
    assert text.shape[0] >= cap_rows, "no letter is lower than a capital one"
    planes = _marked(flat_planes(1920, 1080, 90), "bottom_right", language=language)
    white = np.flatnonzero((planes.y > 200).any(axis=1))
    assert white[-1] - white[0] + 1 >= 0.05 * 1080 - 1
    assert planes.y.max() <= 235 and planes.y.min() >= 16, "within the limited range"


def test_watermark_two_corners_and_full_range() -> None:
    before = planes_of(3, 640, 360)
    after = _marked(before, "bottom_right", "top_right")
    assert _box(before, after)[1] < 36
    assert np.array_equal(before.y[90:270], after.y[90:270])
    assert _marked(flat_planes(640, 360, 0), "top_right", colour=ColourTags(1, True, 1, 1)).y.max() == 255


def test_watermark_pixel_aspect_keeps_letter_width() -> None:
    before, widths = flat_planes(512, 512, 90), []
    for aspect in (1, 2):
        x0, _, x1, _ = _box(before, _marked(before, "bottom_right", sample_aspect_ratio=Fraction(aspect)))
        widths.append((x1 - x0) * aspect)
    assert widths[1] / widths[0] == pytest.approx(1, abs=0.1)
