/** Uppy as this page uses it. */
import Uppy from "@uppy/core";
import { getDroppedFiles } from "@uppy/core/utils";
import Dashboard from "@uppy/dashboard";
import GoldenRetriever from "@uppy/golden-retriever";
import type { OnWait } from "../patience";
import { bringNotes, forgetGone, noteRows } from "./rows";
import { markUnfinished } from "./slot";
import { Uploader, type PageBody, type PageMeta, type PageUppy } from "./uploader";

const MIB = 1024 * 1024;
/** What the browser keeps of one file over a reload; larger ones are chosen again and go on where they were. */
const KEPT_OF_A_FILE = 512 * MIB;
const KEPT_IN_ALL = 2048 * MIB;
/** Golden Retriever hands all of it to its store; its types only know the half. */
const KEPT = { maxFileSize: KEPT_OF_A_FILE, maxTotalSize: KEPT_IN_ALL } as object;

export interface UppyOptions {
  slot: string;
  target: HTMLElement;
  /** Whether the browser can keep files over a reload. */
  keeps: boolean;
  onWait: OnWait;
}

export async function makeUppy({ slot, target, keeps, onWait }: UppyOptions): Promise<PageUppy> {
  // The list is a help only: where it cannot be changed, files are chosen again.
  if (keeps) await bringNotes(slot).catch(() => undefined);
  const uppy = new Uppy<PageMeta, PageBody>({
    id: slot,
    autoProceed: true,
    // What was sent may be sent again, as another record; what is on its way may not.
    onBeforeFileAdded: (file, files) => files[file.id]?.progress.uploadComplete ?? true,
  });
  uppy.use(Dashboard, {
    target,
    inline: true,
    width: "100%",
    height: "min(36rem, 68vh)",
    theme: "auto",
    fileManagerSelectionType: "both",
    proudlyDisplayPoweredByUppy: false,
    ...cameras(),
    locale: { strings: STRINGS },
  });
  uppy.use(Uploader, { onWait });
  watchUnfinished(uppy, slot);
  uppy.on("restored", () => {
    goOn(uppy);
    // Nobody waits for that: where there is no answer they stay.
    void forgetGone(uppy).catch(() => undefined);
  });
  if (keeps) {
    noteRows(uppy, slot);
    // Without a place for files it breaks.
    uppy.use(GoldenRetriever, { indexedDB: KEPT });
  }
  return uppy;
}

/** Add files and folders that were dropped somewhere else on the page. */
export async function addDropped(uppy: PageUppy, transfer: DataTransfer): Promise<void> {
  addFiles(uppy, await getDroppedFiles(transfer));
}

/** Add files that came past Uppy's box. */
export function addFiles(uppy: PageUppy, files: readonly File[]): void {
  uppy.addFiles(
    files.map((file) => ({
      source: "page",
      name: file.name,
      type: file.type,
      data: file,
      meta: { relativePath: (file as { relativePath?: string }).relativePath ?? null },
    })),
  );
}

/** Go on with what a reload interrupted, without a click: stock Uppy waits for one, and then leaves alone what was added
 * just before. */
function goOn(uppy: PageUppy): void {
  if (uppy.getFiles().length === 0) return;
  const under = Object.values(uppy.getState().currentUploads).flatMap(({ fileIDs }) => fileIDs);
  uppy.emit("restore-confirmed");
  const left = uppy.getFiles().some(({ id, progress }) => !progress.uploadStarted && !under.includes(id));
  // Where nothing was under way the confirmation has begun all of them.
  if (under.length > 0 && left) void uppy.upload().catch(() => undefined);
}

function watchUnfinished(uppy: PageUppy, slot: string): void {
  uppy.on("state-update", (before, after) => {
    if (before.files === after.files) return;
    markUnfinished(
      slot,
      Object.values(after.files).some((file) => !file.progress.uploadComplete),
    );
  });
}

/** Phones and tablets offer their camera; other machines would open a file chooser only. */
function cameras(): { showNativePhotoCameraButton: boolean; showNativeVideoCameraButton: boolean } {
  const handheld = matchMedia("(pointer: coarse) and (hover: none)").matches;
  return { showNativePhotoCameraButton: handheld, showNativeVideoCameraButton: handheld };
}

const STRINGS = {
  dashboardTitle: "Files to upload",
  reSelect: "choose the same file again",
  recoveredXFiles: {
    0: "One file is too large to be kept by the browser. Choose the same file again, and it goes on where it was.",
    1: "%{smart_count} files are too large to be kept by the browser. Choose the same files again, and they go on where they were.",
  },
  recoveredAllFiles: "All files are here again.",
};
