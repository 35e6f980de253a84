// Plays turns of a job in review: the film without its sound, and the speech as it will be heard in the video.

import { h } from "./dom.js";
import { t } from "./i18n.js";

const MAX_SEEK_MS = 1500; // the speech is played without the film then

/** Plays one turn at a time. */
export class TurnPlayer {
  /** @param onTime Called with the film when its time has changed. */
  constructor(onTime) {
    this.playing = null; // the row of the turn
    this.isHeard = false;
    this.film = h("video", {
      controls: true, muted: true, playsInline: true, preload: "metadata", "data-label": "original", "aria-label": t("original"),
      ontimeupdate: () => onTime(this.film), onpause: () => onTime(this.film),
    });
    const ended = () => this.isHeard && this.stop(); // events of the turn before may come late
    this.audio = h("audio", { onpause: ended, onended: ended });
  }

  /** Play the turn of a row, or stop if it is playing. */
  async toggle(row) {
    const isPlaying = this.playing === row;
    this.stop();
    if (isPlaying) return;
    this.playing = row;
    row.showPlaying(true);
    const { start, audio, natural_seconds: natural, speed, cut_seconds: cut } = row.turn;
    const rate = speed ?? 1;
    this.audio.src = `${audio}#t=0,${(natural - (cut ?? 0) * rate).toFixed(3)}`; // ends where it is cut
    this.audio.playbackRate = rate;
    await this.seek(start);
    if (this.playing !== row) return;
    try {
      await this.audio.play();
      this.isHeard = this.playing === row;
      if (this.isHeard) this.film.play().catch(() => {}); // with the speech, which is heard without it
    } catch {
      if (this.playing !== row) return; // stopped meanwhile
      this.stop();
      row.say("", t("turnNotPlayed"));
    }
  }

  async seek(seconds) {
    const { film } = this;
    film.muted = true;
    if (!film.src || film.error) return;
    await new Promise((done) => {
      film.addEventListener("seeked", done, { once: true });
      setTimeout(done, MAX_SEEK_MS);
      film.currentTime = seconds;
    });
  }

  stop() {
    const row = this.playing;
    if (!row) return;
    this.playing = null;
    this.isHeard = false;
    this.audio.pause();
    this.film.pause();
    row.showPlaying(false);
  }

  /** Stop, and give the connections back. */
  close() {
    this.stop();
    for (const media of [this.audio, this.film]) {
      media.removeAttribute("src");
      media.load();
    }
  }
}
