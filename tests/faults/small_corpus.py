"""Hostile inputs made on the spot, without FFmpeg's command and without files from elsewhere."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.faults.hostile import Case, Expect, Mouth, Role
from tests.unit.media.clips import (
    noise,
    packed_text,
    png_chunk,
    wav,
    write_chained_ogg,
    write_edited_video,
    write_fast_video,
    write_frozen_video,
    write_loud_wav,
    write_png,
    write_sound_with_gap,
    write_still,
    write_tagged_sound,
    write_video,
)

_RATE = 16000
_HLS = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n#EXTINF:2.0,\n{0}\n#EXT-X-ENDLIST\n"
_NAMES = (
    *(b"../../../../tmp/hostile_name.mp4", b"..\\..\\hostile_name.mp4", b"/tmp/hostile_name.mp4", b"a\x00b.mp4"),
    *("\u202egpj.4pm".encode(), b"x" * 4000 + b".mp4", b"$(touch /tmp/hostile_name).mp4", b"-y.mp4"),
    *(b"concat:a|b.mp4", b"a\r\nSet-Cookie: x=1.mp4", b'a"b.mp4', b"<img src=x onerror=alert(1)>.mp4"),
    *(b"", b"..", b"face_%05d.mp4", "\ud83d.mp4".encode("utf-8", "surrogatepass")),
)
_URLS = (
    *("http://127.0.0.1:{port}/a.mp4", "http://localhost:{port}/a.mp4", "http://[::1]:{port}/a.mp4"),
    *("http://0x7f000001:{port}/a.mp4", "http://2130706433:{port}/a.mp4", "http://127.1:{port}/a.mp4"),
    *("http://169.254.169.254/latest/meta-data/", "ftp://127.0.0.1:{port}/a.mp4", "rtmp://127.0.0.1:{port}/a"),
    *("tcp://127.0.0.1:{port}", "file:///etc/passwd", "/etc/passwd", "../../../../etc/passwd"),
    *("concat:/etc/passwd|/etc/hosts", "data:text/plain;base64,aGVsbG8=", "pipe:0"),
)


class SmallCorpus:
    def __init__(self, folder: Path, face: Path, voice: NDArray[np.float32], port: int) -> None:
        self._folder, self._face, self._voice, self._port = folder, face, voice, port
        self.cases: list[Case] = []

    def make(self) -> list[Case]:
        self._scripts()
        self._broken_videos()
        self._good_videos()
        self._broken_sound()
        self._odd_sound()
        self._dear_files()
        good = self._face.read_bytes()
        for number, name in enumerate(_NAMES):
            self._add("filename", "either", f"name{number:02d}", good, name)
        for number, url in enumerate(_URLS):
            text = url.format(port=self._port).encode()
            self.cases.append(Case(f"path{number:02d}", "path", "reject", None, text))
        return self.cases

    def _add(
        self, role: Role, expect: Expect, case_id: str, content: bytes, name: bytes | None = None, mouth: Mouth = "any"
    ) -> None:
        path = self._folder / case_id
        path.write_bytes(content)
        self.cases.append(Case(case_id, role, expect, path, case_id.encode() if name is None else name, mouth))

    def _add_sound(self, mouth: Mouth, case_id: str, content: bytes) -> None:
        self._add("audio", "accept", case_id, content, mouth=mouth)

    def _scripts(self) -> None:
        canary = f"http://127.0.0.1:{self._port}"
        sibling = self._folder / "sibling.mp4"
        sibling.write_bytes(self._face.read_bytes())
        for name, text in {
            "hls_http.m3u8": _HLS.format(f"{canary}/a.ts"),
            "hls_http.mp4": _HLS.format(f"{canary}/b.ts"),
            "hls_file.m3u8": _HLS.format("file:///etc/passwd"),
            "hls_concat.avi": _HLS.format(f"concat:{canary}/c|file:///etc/passwd"),
            "ffconcat.mp4": "ffconcat version 1.0\nfile 'sibling.mp4'\n",
            "ffconcat.ffconcat": "ffconcat version 1.0\nfile '/etc/passwd'\noption safe 0\n",
            "sdp.mp4": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
            f"m=video {self._port} RTP/AVP 96\na=rtpmap:96 H264/90000\n",
            "dash.mpd": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
            'mediaPresentationDuration="PT2S"><Period><AdaptationSet mimeType="video/mp4"><Representation id="1" '
            f'bandwidth="1000"><BaseURL>{canary}/d.mp4</BaseURL></Representation></AdaptationSet></Period></MPD>',
            "entity.svg": '<?xml version="1.0"?><!DOCTYPE s [<!ENTITY x SYSTEM "file:///etc/passwd">]><svg '
            'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="400" height="400">'
            f'<image xlink:href="{canary}/e.png" width="400" height="400"/><text y="40">&x;</text></svg>',
            "page.html": "<!doctype html><html><script>alert(1)</script></html>",
        }.items():
            self._add("video", "reject", name, text.encode())
            self._add("audio", "reject", f"sound_{name}", text.encode())

    def _broken_videos(self) -> None:
        good = self._face.read_bytes()
        index_last = write_video(self._folder / "no_face.mp4", 20).read_bytes()
        self._add("video", "reject", "empty.mp4", b"")
        self._add("video", "reject", "random.mp4", np.random.default_rng(1).bytes(100_000))
        self._add("video", "reject", "header_only.mp4", good[:40])
        self._add("video", "reject", "index_cut_off.mp4", index_last[: len(index_last) * 6 // 10])
        self._add("video", "reject", "no_face.mp4", index_last)
        self._add("video", "reject", "black.mp4", write_video(self._folder / "b.mp4", 9, size=(16, 16)).read_bytes())
        self._add("video", "reject", "no_face.png", write_still(self._folder / "n", "png", "rgb24").read_bytes())
        self._add("video", "reject", "tiny.png", write_still(self._folder / "t", "png", "rgb24", (8, 8)).read_bytes())
        self._add("video", "reject", "bomb.png", png_bomb(16000))
        self._add("video", "either", "cut.mp4", good[: len(good) * 6 // 10])
        self._add("video", "either", "flipped_bytes.mp4", _flip(good))
        self._add("video", "either", "size_lies.mp4", _patch(good, b"avc1", 28, struct.pack(">HH", 65535, 65535)))
        self._add("video", "either", "months_long.mp4", _patch(good, b"stts", 16, struct.pack(">I", 2**30)))
        self._add("video", "either", "all_at_once.mp4", _patch(good, b"stts", 16, bytes(4)))
        self._add("video", "either", "no_clock.mp4", _patch(good, b"mdhd", 16, bytes(4)))
        self._add("video", "either", "many_samples.mp4", _patch(good, b"stsz", 12, struct.pack(">I", 0x0FFFFFFF)))

    def _good_videos(self) -> None:
        self._add("video", "accept", "wrong_name.avi", self._face.read_bytes())
        self._add("video", "accept", "bare", self._face.read_bytes())

    def _broken_sound(self) -> None:
        silent_video = write_video(self._folder / "v.mp4", 5).read_bytes()
        self._add("audio", "reject", "empty.wav", b"")
        self._add("audio", "reject", "no_samples.wav", wav(b""))
        self._add("audio", "reject", "text.wav", b"not audio\n" * 500)
        self._add("audio", "reject", "garbage.wav", b"RIFF\xff\xff\xff\xffWAVE" + np.random.default_rng(2).bytes(5000))
        self._add("audio", "reject", "no_rate.wav", wav(self._pcm(), rate=0))
        self._add("audio", "reject", "rate_4g.wav", wav(self._pcm(), rate=4_000_000_000))
        self._add("audio", "reject", "no_sound.mp4", silent_video)
        self._add("audio", "either", "forty_channels.wav", wav(self._pcm(), channels=40))

    def _odd_sound(self) -> None:
        with_nan = self._voice.copy()
        with_nan[3000:5000], with_nan[6000:6100] = np.nan, np.inf
        self._add("audio", "either", "nan.wav", wav(with_nan.astype("<f4").tobytes(), kind=3, bits=32))
        self._add("audio", "either", "one_sample.wav", wav(self._pcm()[:2]))
        self._add_sound("moves", "size_lies.wav", wav(self._pcm(), num_bytes=2**32 - 40))
        self._add_sound("moves", "odd_end.wav", wav(self._pcm())[:-1001])
        self._add_sound("rests", "silence.wav", wav(bytes(2 * _RATE)))
        self._add_sound("moves", "offset.wav", wav(_to_pcm(self._voice * 0.4 + 0.45)))
        self._add_sound("moves", "faint.wav", wav(_to_pcm(self._voice * 0.003)))
        self._add_sound("rests", "noise.wav", wav(_to_pcm(noise(1.0, _RATE))))
        turned = np.stack([self._voice, -self._voice], 1)
        self._add_sound("moves", "out_of_phase.wav", wav(_to_pcm(turned), channels=2))
        self._add_sound("moves", "bare_sound", wav(self._pcm()))

    def _dear_files(self) -> None:
        """Small files that would cost much, or say what is not so."""
        folder = self._folder
        for name, path in {
            "fast.mp4": write_fast_video(folder / "a.mp4", 400_000),
            "hours_frozen.mp4": write_frozen_video(folder / "b.mp4", 3000),
            "texts.png": write_png(folder / "c.png", packed_text(b"zTXt", 10_000_000) * 1000),
            "one_text.png": write_png(folder / "j.png", packed_text(b"zTXt", 200_000_000)),
            "many_edits.mp4": write_edited_video(folder / "d.mp4", 10_000),
        }.items():
            self._add("video", "reject", name, path.read_bytes())
        self._add("video", "either", "edits.mp4", write_edited_video(folder / "d.mp4", 50).read_bytes())
        for name, path in {
            "gap.mka": write_sound_with_gap(folder / "e.mka", 10_200, "libopus"),
            "gap.m4a": write_sound_with_gap(folder / "f.m4a", 10_200, "aac"),
            "tags.mp3": write_tagged_sound(folder / "g.mp3", 50_000),
            "changes.ogg": write_chained_ogg(folder / "h.ogg"),
        }.items():
            self._add("audio", "reject", name, path.read_bytes())
        self._add_sound("any", "loud.wav", write_loud_wav(folder / "i.wav", 1e308).read_bytes())

    def _pcm(self) -> bytes:
        return _to_pcm(self._voice)


def png_bomb(side: int) -> bytes:
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(side * (side + 1)), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def _to_pcm(samples: NDArray[np.floating]) -> bytes:
    return bytes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())


def _patch(content: bytes, box: bytes, offset: int, value: bytes) -> bytes:
    """An MP4 with other bytes `offset` behind the start of the name of its first `box`."""
    at = content.index(box) + offset
    return content[:at] + value + content[at + len(value) :]


def _flip(content: bytes) -> bytes:
    rng = np.random.default_rng(3)
    flipped = bytearray(content)
    for at in rng.integers(len(content) * 4 // 10, len(content) * 6 // 10, 60):
        flipped[at] ^= int(rng.integers(1, 256))
    return bytes(flipped)
