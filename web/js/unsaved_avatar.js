// A face that is shown live and not kept: sent once, and looked at before the session begins.

import { ApiError, request, send } from "./api.js";
import { FilePicker } from "./file_picker.js";

const LOOK_MS = 500;

/** The place for the visitor's own face. */
export class UnsavedAvatar {
  /**
   * @param place The element to fill.
   * @param onChange Called after each change of the file.
   */
  constructor(place, onChange) {
    this.place = place;
    this.picker = new FilePicker(place, "video", onChange);
    this.sent = { file: null, id: null };
  }

  get file() {
    return this.picker.file;
  }

  /**
   * The id of the avatar that the file is. Raises `ApiError`.
   *
   * @param onStep Called with the key of a text and its values: what is being done.
   * @param isWanted Says whether anybody still waits.
   */
  async avatarId(onStep, isWanted) {
    const { file } = this;
    if (this.sent.file !== file) {
      const showSent = (share) => (share < 1 ? onStep("uploading", { percent: Math.floor(100 * share) }) : onStep("checking"));
      this.sent = { file, id: (await send("/v1/avatars", { video: file, keep: "false" }, showSent)).id };
    }
    onStep("stageAnalysing");
    const { id } = this.sent;
    while (isWanted()) {
      const avatar = await this.look(id);
      if (avatar.status === "ready") break;
      if (avatar.status === "failed") throw new ApiError(422, { code: avatar.error.code, detail: avatar.error.message });
      await new Promise((done) => setTimeout(done, LOOK_MS));
    }
    return id;
  }

  async look(id) {
    try {
      return await request("GET", `/v1/avatars/${id}`);
    } catch (error) {
      if (error.status === 404) this.sent = { file: null, id: null }; // it went when it was long unused: send it again
      throw error;
    }
  }
}
