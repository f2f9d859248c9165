/** The Upload view: what is to be sent, on its way, and sent. */
import "@uppy/core/css/style.min.css";
import "@uppy/dashboard/css/style.min.css";
import "./style.css";
import { h } from "../dom";
import { size } from "../format";
import { personOf, type Session } from "../session";
import { hasPlaceForFiles } from "../store";
import { sentence } from "../words";
import type { PageUppy } from "./uploader";
import { takeSlot } from "./slot";
import { addDropped, addFiles, makeUppy } from "./uppy";

export interface UploadView {
  element: HTMLElement;
  /** Told how far all uploads are together, in percent; null when there are none under way. */
  onProgress: (listener: (percent: number | null) => void) => void;
}

export async function makeUploadView(session: Session): Promise<UploadView> {
  const keeps = await hasPlaceForFiles();
  const target = h("div", { class: "dashboard" });
  const waiting = h("p", { class: "waiting", role: "status", hidden: true });
  const failures = h("div", { class: "failures", role: "alert" });
  const total = h("p", { class: "total", role: "status" });
  const element = h(
    "section",
    { id: "upload", "aria-label": "Upload" },
    h("h1", {}, "Upload"),
    h(
      "p",
      { class: "lead" },
      "Drop files or folders anywhere on this page. They go on by themselves after a lost network",
      keeps ? " or a reload." : "; after a reload choose them again: this browser keeps no files.",
    ),
    waiting,
    failures,
    target,
    total,
  );
  const slot = await takeSlot(personOf(session));
  const uppy = await makeUppy({
    slot,
    target,
    keeps,
    onWait: (because) => {
      waiting.hidden = because === null;
      waiting.textContent = because === null ? "" : sentence(because);
    },
  });
  catchDrops(uppy);
  catchPastes(uppy, target);
  uppy.on("state-update", (before, after) => {
    total.textContent = summary(uppy);
    if (before.files !== after.files) tellFailures(uppy, failures);
  });
  return {
    element,
    onProgress: (listener) => {
      const tell = (): void => listener(underWay(uppy) ? uppy.getState().totalProgress : null);
      uppy.on("progress", tell);
      uppy.on("complete", tell);
      uppy.on("cancel-all", tell);
    },
  };
}

function underWay(uppy: PageUppy): boolean {
  return uppy
    .getFiles()
    .some((file) => file.progress.uploadStarted !== null && !file.progress.uploadComplete && !file.error);
}

/** "3 of 20 files, 12 MB of 96 MB": the total in plain words, for screen readers too. */
function summary(uppy: PageUppy): string {
  const files = uppy.getFiles();
  if (files.length === 0) return "";
  const done = files.filter((file) => file.progress.uploadComplete).length;
  const sent = files.reduce((sum, file) => sum + (Number(file.progress.bytesUploaded) || 0), 0);
  const all = files.reduce((sum, file) => sum + (file.size ?? 0), 0);
  return `${done} of ${files.length} ${files.length === 1 ? "file" : "files"} sent, ${size(sent)} of ${size(all)}`;
}

/** What went wrong with which file, and what to do; Uppy itself hides that behind a question mark. */
function tellFailures(uppy: PageUppy, list: HTMLElement): void {
  const told = uppy.getFiles().flatMap(({ name, error }) => (error ? [`${name}: ${error}`] : []));
  if (told.join("\n") === [...list.children].map((item) => item.textContent).join("\n")) return;
  list.replaceChildren(...told.map((text) => h("p", { class: "error" }, text)));
}

/** The whole page takes files, not only Uppy's box. */
function catchDrops(uppy: PageUppy): void {
  const hasFiles = (event: DragEvent): boolean => event.dataTransfer?.types.includes("Files") ?? false;
  addEventListener("dragover", (event) => {
    if (hasFiles(event)) event.preventDefault();
  });
  addEventListener("drop", (event) => {
    // What fell into Uppy's box was prevented there, and is taken already.
    if (!hasFiles(event) || event.defaultPrevented || !event.dataTransfer) return;
    event.preventDefault();
    void addDropped(uppy, event.dataTransfer);
  });
}

/** The whole page takes what is pasted too; Uppy's box only while the keyboard is in it. */
function catchPastes(uppy: PageUppy, box: HTMLElement): void {
  document.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length === 0 || box.contains(document.activeElement)) return;
    event.preventDefault();
    addFiles(uppy, files);
  });
}
