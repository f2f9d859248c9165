/** The list that Golden Retriever keeps of a store, read and changed before it is at work itself.
 *
 * Rule 1: a database of another version than this one is left alone.
 */
const NAME = "uppy-blobs";
const VERSION = 4;
const LISTS = "metadata";
/** Rows of earlier loads: more than anybody looks through, and little enough to be written twice a second. */
export const MOST_ROWS = 2000;
/** As long as Golden Retriever keeps a list. */
const LASTS_MS = 24 * 60 * 60 * 1000;

/** A row as it is kept: a file of Uppy's without its bytes. */
export interface KeptRow {
  id: string;
  progress: { complete?: boolean; uploadComplete?: boolean; uploadStarted?: number | null };
  error?: string | null;
  response?: { body?: { id?: string } };
}

export interface KeptList {
  files: Record<string, KeptRow>;
  currentUploads: Record<string, { fileIDs: string[] }>;
  pluginData: Record<string, unknown>;
}

interface Entry {
  id: string;
  expires: number;
  metadata: string;
}

/** Change the list of a store; returns its rows afterwards. */
export async function changeList(
  slot: string,
  change: (list: KeptList) => KeptList,
): Promise<KeptList["files"]> {
  const database = await open();
  if (database === null) return {};
  try {
    const lists = database.transaction(LISTS, "readwrite").objectStore(LISTS);
    const entry = await answered(lists.get(slot) as IDBRequest<Entry | undefined>);
    const good = entry && entry.expires > Date.now();
    const list = good
      ? (JSON.parse(entry.metadata) as KeptList)
      : { files: {}, currentUploads: {}, pluginData: {} };
    const changed = change(list);
    const metadata = JSON.stringify(changed);
    await answered(lists.put({ id: slot, expires: Date.now() + LASTS_MS, metadata }));
    return changed.files;
  } finally {
    database.close();
  }
}

/** The rows without the oldest settled ones that are too many. */
export function bounded(files: Readonly<Record<string, KeptRow>>): Record<string, KeptRow> {
  let excess = Object.keys(files).length - MOST_ROWS;
  return Object.fromEntries(
    Object.entries(files).filter(([, row]) => {
      const goes = excess > 0 && (isSettled(row) || Boolean(row.error));
      if (goes) excess -= 1;
      return !goes;
    }),
  );
}

/** Whether a file has arrived. */
export function isSettled({ progress, error }: KeptRow): boolean {
  return progress.complete === true && !error;
}

function open(): Promise<IDBDatabase | null> {
  return new Promise((told) => {
    const request = indexedDB.open(NAME, VERSION);
    request.onupgradeneeded = ({ oldVersion }) => {
      if (oldVersion === 0) make(request.result);
      else request.transaction?.abort();
    };
    request.onsuccess = () => told(request.result);
    request.onerror = () => told(null);
  });
}

/** As Golden Retriever makes it. */
function make(database: IDBDatabase): void {
  const files = database.createObjectStore("files", { keyPath: "id" });
  files.createIndex("store", "store");
  files.createIndex("expires", "expires");
  database.createObjectStore(LISTS, { keyPath: "id" }).createIndex("expires", "expires");
}

function answered<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((done, failed) => {
    request.onsuccess = () => done(request.result);
    request.onerror = () => failed(request.error ?? new Error("no answer"));
  });
}
