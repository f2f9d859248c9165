/** The rows of this tab's list, noted at once.
 *
 * Golden Retriever writes its list twice a second, and the first time after a database was opened. A reload before that
 * would lose what was chosen just now, or send again what arrived just now.
 * Rule 1: a row is noted in the same step in which it is added, and its end in the same step in which it is told.
 * Rule 2: what was noted is written into Golden Retriever's list before that is read, so that there is one list.
 * Rule 3: it is bounded; of what is settled the oldest goes first, and what is not never goes.
 * Rule 4: when all have arrived the list is forgotten, as Golden Retriever does.
 */
import { call, type FileRecord, type Page } from "../api";
import { browserStore } from "../store";
import { bounded, changeList, isSettled, type KeptList, type KeptRow } from "./kept";
import type { PageFile, PageUppy } from "./uploader";

interface Note {
  row: KeptRow;
  /** When it was added, in milliseconds; see LASTS_MS. */
  since: number;
}

const PREFIX = "haulier.row.";
/** Golden Retriever has had its list for long then, and forgets that itself after so long. */
const LASTS_MS = 24 * 60 * 60 * 1000;

/** Ids that the service takes at once. */
const IDS_AT_ONCE = 100;

/** Note what comes into the list of a store, arrives and leaves it. */
export function noteRows(uppy: PageUppy, slot: string): void {
  uppy.on("file-added", (file) => note(slot, file));
  uppy.on("upload-success", (file) => file && note(slot, uppy.getFile(file.id)));
  uppy.on("file-removed", ({ id }) => browserStore.remove(nameOf(slot, id)));
}

/** Put into the list of a store what was noted and is not in it yet. */
export async function bringNotes(slot: string): Promise<void> {
  forgetOld(Date.now());
  const names = browserStore.names(nameOf(slot, ""));
  if (names.length === 0) return;
  const rows = names.map((name) => (JSON.parse(browserStore.get(name) ?? "{}") as Note).row);
  const files = await changeList(slot, (list) => brought(list, rows));
  const over = Object.values(files).every(isSettled);
  for (const [index, { id }] of rows.entries())
    if (over || !files[id]) browserStore.remove(names[index] ?? "");
}

/** Take those that arrived earlier, and are not there any more, from the list. */
export async function forgetGone(uppy: PageUppy): Promise<void> {
  const rows = uppy.getFiles().flatMap(({ id, progress, response }) => {
    const record = progress.uploadComplete && response?.body?.id;
    return record ? [{ id, record }] : [];
  });
  for (let start = 0; start < rows.length; start += IDS_AT_ONCE) {
    const some = rows.slice(start, start + IDS_AT_ONCE);
    const query = new URLSearchParams([
      ["limit", String(IDS_AT_ONCE)],
      ...some.map(({ record }) => ["id", record]),
    ]);
    const { items } = await call<Page<FileRecord>>(`api/records?${query.toString()}`);
    const there = new Set(items.map(({ id }) => id));
    uppy.removeFiles(some.filter(({ record }) => !there.has(record)).map(({ id }) => id));
  }
}

/** The list with what was noted: rows that it lacks, and ends that it does not know of. */
function brought({ files, currentUploads, pluginData }: KeptList, rows: readonly KeptRow[]): KeptList {
  const missing = rows.filter((row) => {
    const known = files[row.id];
    return !known || (isSettled(row) && !isSettled(known));
  });
  return {
    files: bounded({ ...files, ...Object.fromEntries(missing.map((row) => [row.id, row])) }),
    currentUploads,
    pluginData,
  };
}

function note(slot: string, file: PageFile): void {
  const row: Partial<PageFile> = { ...file };
  // The bytes and the picture are nothing for a note.
  delete row.data;
  delete row.preview;
  browserStore.set(nameOf(slot, file.id), JSON.stringify({ row, since: Date.now() }));
}

function forgetOld(now: number): void {
  for (const name of browserStore.names(PREFIX)) {
    const { since } = JSON.parse(browserStore.get(name) ?? "{}") as Partial<Note>;
    if (now - (since ?? 0) > LASTS_MS) browserStore.remove(name);
  }
}

/** A person's name, which is part of a store's, has no slash in it there. */
function nameOf(slot: string, id: string): string {
  return `${PREFIX}${slot}/${id}`;
}
