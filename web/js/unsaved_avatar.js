// Avatars that are not kept: a file is sent once, however often it is used.

import { ApiError, request, send } from "./api.js";
import { FilePicker } from "./file_picker.js";

const LOOK_MS = 500;
const sent = new WeakMap(); // avatar IDs by file

/**
 * Call `use` with the ID of the avatar of `file`, and return its result. Throws `ApiError`.
 *
 * @param onStep Called with the key of a text and its values: what is being done.
 */
export async function withUnsavedAvatar(file, onStep, use) {
  if (!sent.has(file)) {
    const showSent = (share) => (share < 1 ? onStep("uploading", { percent: Math.floor(100 * share) }) : onStep("checking"));
    sent.set(file, (await send("/v1/avatars", { video: file, keep: "false" }, showSent)).id);
  }
  try {
    return await use(sent.get(file));
  } catch (error) {
    if (error.status === 404) sent.delete(file); // it was evicted because it was not used: send it again next time
    throw error;
  }
}

/** The place for the visitor's own face, which is shown live. */
export class UnsavedAvatar {
  /**
   * @param place The element to fill.
   * @param onChange Called after each change of the file.
   */
  constructor(place, onChange) {
    this.place = place;
    this.picker = new FilePicker(place, "video", onChange);
  }

  get file() {
    return this.picker.file;
  }

  /**
   * The id of the avatar that the file is, once it is analysed. Throws `ApiError`.
   *
   * @param onStep Called with the key of a text and its values: what is being done.
   * @param isWanted Says whether anybody still waits.
   */
  avatarId(onStep, isWanted) {
    return withUnsavedAvatar(this.file, onStep, async (id) => {
      onStep("stageAnalysing");
      while (isWanted()) {
        const avatar = await request("GET", `/v1/avatars/${id}`);
        if (avatar.status === "ready") break;
        if (avatar.status === "failed") throw new ApiError(422, { code: avatar.error.code, detail: avatar.error.message });
        await new Promise((done) => setTimeout(done, LOOK_MS));
      }
      return id;
    });
  }
}
