/** The part of Uppy that sends: every file is one session of the native API. */
import { BasePlugin, EventManager, type Body, type Uppy, type UppyFile } from "@uppy/core";
import type { FileRecord } from "../api";
import type { OnWait } from "../patience";
import { isUnknown, whileKnown } from "../session";
import { sentence } from "../words";
import { abandon, begin, isForgotten, send, type Ticket } from "./session";
import { forget, forgetOld, keep, keptOf } from "./tickets";
import { Door, Turns } from "./waiting";

export type PageMeta = { relativePath?: string | null };
export type PageBody = FileRecord & Body;
export type PageUppy = Uppy<PageMeta, PageBody>;
export type PageFile = UppyFile<PageMeta, PageBody>;

/** Requests with bytes at once: a browser has six connections for all of its tabs, and others need some too. */
const CHUNKS_AT_ONCE = 3;
/** Files at once: small ones are mostly waiting for answers. */
const FILES_AT_ONCE = 4;

interface Options extends Record<string, unknown> {
  id?: string;
  /** Told when uploads wait for the network or the service, and (with null) when they go on. */
  onWait: OnWait;
}

class Paused extends Error {}
class Removed extends Error {}

export class Uploader extends BasePlugin<Options, PageMeta, PageBody> {
  readonly #files = new Turns(FILES_AT_ONCE);
  readonly #chunks = new Turns(CHUNKS_AT_ONCE);

  constructor(uppy: PageUppy, options: Options) {
    super(uppy, options);
    this.id = "Uploader";
    this.type = "uploader";
  }

  override install(): void {
    const { capabilities } = this.uppy.getState();
    this.uppy.setState({
      capabilities: {
        ...capabilities,
        uploadProgress: true,
        resumableUploads: true,
        individualCancellation: true,
      },
    });
    forgetOld(Date.now());
    this.uppy.addUploader(this.#upload);
    this.uppy.on("file-removed", this.#free);
  }

  override uninstall(): void {
    this.uppy.removeUploader(this.#upload);
    this.uppy.off("file-removed", this.#free);
  }

  /** Whoever takes a file from the list does not want what has arrived of it. */
  readonly #free = (file: PageFile): void => {
    const ticket = keptOf(file.id)?.ticket;
    forget(file.id);
    if (ticket && !file.progress.uploadComplete) void abandon(ticket);
  };

  readonly #upload = async (ids: string[]): Promise<void> => {
    const files = this.uppy.getFilesByIds(ids).filter((file) => !file.progress.uploadComplete);
    this.uppy.emit("upload-start", files);
    await Promise.all(files.map((file) => this.#uploadOne(file.id)));
  };

  async #uploadOne(id: string): Promise<void> {
    const turns = { files: this.#files, chunks: this.#chunks };
    const one = new OneFile(this.uppy, id, turns, this.opts.onWait);
    try {
      const record = await one.send(await one.data());
      // Told before its session is forgotten: a reload in between would send it again.
      this.uppy.emit("upload-success", this.uppy.getFile(id), { status: 200, body: record as PageBody });
      forget(id);
    } catch (error) {
      if (error instanceof Removed) return;
      this.uppy.emit("upload-error", this.uppy.getFile(id), {
        name: "UploadError",
        message: sentence(error),
      });
    } finally {
      one.close();
    }
  }
}

/** One file on its way: paused, resumed, removed, and begun anew when its session is forgotten. */
class OneFile {
  readonly #events: EventManager<PageMeta, PageBody>;
  readonly #door = new Door();
  readonly #removed = new AbortController();
  #stage = new AbortController();

  constructor(
    private readonly uppy: PageUppy,
    private readonly id: string,
    private readonly turns: { files: Turns; chunks: Turns },
    private readonly onWait: OnWait,
  ) {
    this.#events = new EventManager(uppy);
    this.#events.onFileRemove(id, () => this.#remove());
    this.#events.onFilePause(id, (paused) => (paused ? this.#pause() : this.#door.open()));
    this.#events.onPauseAll(id, () => this.#pause());
    this.#events.onResumeAll(id, () => this.#door.open());
  }

  close(): void {
    this.#events.remove();
  }

  /** The file's bytes; after a reload a large file has to be chosen again first. */
  data(): Promise<Blob> {
    const now = this.#file.data;
    if (now instanceof Blob) return Promise.resolve(now);
    return new Promise((resolve, reject) => {
      this.#removed.signal.addEventListener("abort", () => reject(new Removed()));
      this.#events.on("file-added", (file) => {
        if (file.id === this.id && file.data instanceof Blob) resolve(file.data);
      });
    });
  }

  /** Send it; while it is paused others have its turn. */
  async send(data: Blob): Promise<FileRecord> {
    for (;;) {
      await this.#door.passed();
      const stage = new AbortController();
      this.#stage = stage;
      const signal = AbortSignal.any([stage.signal, this.#removed.signal]);
      try {
        return await this.turns.files.run(() => this.#attempt(data, signal));
      } catch (error) {
        // An upload's own token is good for as long as the service knows the upload.
        const forgotten = isForgotten(error) || (isUnknown(error) && keptOf(this.id)?.ticket);
        if (forgotten) forget(this.id);
        else if (!(error instanceof Paused)) throw error;
      }
    }
  }

  async #attempt(data: Blob, signal: AbortSignal): Promise<FileRecord> {
    signal.throwIfAborted();
    const ticket = keptOf(this.id)?.ticket ?? (await this.#begin(data, signal));
    return send(ticket, data, {
      turns: this.turns.chunks,
      signal,
      onProgress: (bytes) => this.#tell(bytes, data.size),
      onWait: this.onWait,
    });
  }

  async #begin(data: Blob, signal: AbortSignal): Promise<Ticket> {
    const { name, type, meta } = this.#file;
    const kept = keptOf(this.id) ?? { key: newKey(), ticket: null, since: Date.now() };
    keep(this.id, kept);
    const { key } = kept;
    const description = {
      filename: name,
      size: data.size,
      path: pathOf(meta),
      contentType: type || null,
      key,
    };
    const ticket = await whileKnown(() => begin(description, signal, this.onWait));
    keep(this.id, { ...kept, ticket });
    return ticket;
  }

  #tell(bytesUploaded: number, bytesTotal: number): void {
    if (this.#removed.signal.aborted) return;
    const { uploadStarted } = this.#file.progress;
    if (uploadStarted === null) return;
    this.uppy.emit("upload-progress", this.#file, { uploadStarted, bytesUploaded, bytesTotal });
  }

  #pause(): void {
    this.#door.shut();
    this.#stage.abort(new Paused());
  }

  #remove(): void {
    this.#removed.abort(new Removed());
    this.#door.open();
  }

  get #file(): PageFile {
    return this.uppy.getFile(this.id);
  }
}

/** The folder and name as the browser gave them; a lone file has no path. */
function pathOf(meta: PageMeta): string | null {
  const path = meta.relativePath?.replace(/^\/+/, "").normalize("NFC");
  return path?.includes("/") ? path : null;
}

/** Random, also where `crypto.randomUUID` is missing: on plain http names. */
function newKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
