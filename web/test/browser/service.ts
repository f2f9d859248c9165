/** The installed `haulier serve` on a free port, and what a test asks it directly. */
import { execFileSync, spawn, type ChildProcess } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { expect } from "vitest";
import type { FileRecord, Page } from "../../src/api";

const ROOT = resolve(import.meta.dirname, "../../..");
const HAULIER = resolve(ROOT, ".venv/bin/haulier");
const PYTHON = resolve(ROOT, ".venv/bin/python");
/** A bound against hanging, no measure of speed. */
const START_MS = 60_000;

export class Service {
  readonly folder = mkdtempSync(join(tmpdir(), "haulier-page-"));
  #process: ChildProcess | null = null;
  #port = 0;

  constructor(private readonly settings: Record<string, string> = {}) {}

  static async start(settings: Record<string, string> = {}): Promise<Service> {
    const service = new Service(settings);
    await service.run();
    return service;
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  get dataDir(): string {
    return join(this.folder, "data");
  }

  /** Make a token for a principal; the service then asks everybody for one. */
  token(principal: string, ...options: string[]): string {
    const told = this.command(
      "token",
      "create",
      "--principal",
      principal,
      "--data-dir",
      this.dataDir,
      "--json",
      ...options,
    );
    return (JSON.parse(told) as { token: string }).token;
  }

  /** Run a command with this service's settings to its end; returns what it printed. */
  command(...options: string[]): string {
    return execFileSync(HAULIER, options, {
      encoding: "utf8",
      env: this.#environment(),
      stdio: ["ignore", "pipe", "pipe"],
    });
  }

  #environment(): NodeJS.ProcessEnv {
    const own = Object.entries(process.env).filter(([name]) => !name.startsWith("HAULIER_"));
    return { ...Object.fromEntries(own), ...this.settings };
  }

  /** Start it; again on the same port and data when it ran before. */
  async run(): Promise<void> {
    const [child, first] = await this.begin(
      "serve",
      "--port",
      String(this.#port),
      "--data-dir",
      this.dataDir,
    );
    this.#process = child;
    this.#port = Number(/ready on http:\/\/127\.0\.0\.1:(\d+)/.exec(first)?.[1]);
  }

  /** Begin a command that stays; returns its process and its first line. */
  async begin(...options: string[]): Promise<[ChildProcess, string]> {
    const child = spawn(HAULIER, options, { env: this.#environment(), stdio: ["ignore", "pipe", "pipe"] });
    let log = "";
    child.stderr.on("data", (piece: Buffer) => (log += piece.toString()));
    const first = await new Promise<string>((told, failed) => {
      const lines = createInterface(child.stdout);
      lines.once("line", told);
      child.once("exit", () => failed(new Error(`haulier ${String(options[0])} ended: ${log}`)));
      setTimeout(
        () => failed(new Error(`haulier ${String(options[0])} is not ready: ${log}`)),
        START_MS,
      ).unref();
    });
    return [child, first];
  }

  /** End it as a crash would. */
  async kill(): Promise<void> {
    const child = this.#process;
    this.#process = null;
    if (!child || child.exitCode !== null) return;
    const ended = new Promise((done) => child.once("exit", done));
    child.kill("SIGKILL");
    await ended;
  }

  async stop(): Promise<void> {
    await this.kill();
    rmSync(this.folder, { recursive: true, force: true });
  }

  async put(
    name: string,
    body: string | Uint8Array,
    query: Record<string, string> = {},
  ): Promise<FileRecord> {
    const target = `${this.url}/api/files/${encodeURIComponent(name)}?${new URLSearchParams(query).toString()}`;
    const answer = await fetch(target, { method: "PUT", body: body as BodyInit });
    if (!answer.ok) throw new Error(await answer.text());
    return (await answer.json()) as FileRecord;
  }

  /** Have so many records more, older than all others. */
  fill(count: number): void {
    execFileSync(PYTHON, ["-m", "tests.support.many_records", this.dataDir, String(count)], { cwd: ROOT });
  }

  async records(query: Record<string, string> = {}): Promise<FileRecord[]> {
    const answer = await fetch(
      `${this.url}/api/records?${new URLSearchParams({ limit: "200", ...query }).toString()}`,
    );
    return ((await answer.json()) as Page<FileRecord>).items;
  }

  /** Wait until so many bytes of an upload that is under way are here. */
  async arrived(name: string, bytes: number): Promise<void> {
    await expect
      .poll(async () => {
        const answer = await fetch(`${this.url}/api/operators/sessions?limit=200`);
        const { items } = (await answer.json()) as {
          items: { filename: string; status: string; received_bytes: number }[];
        };
        return items.find((item) => item.filename === name && item.status === "open")?.received_bytes ?? 0;
      })
      .toBeGreaterThan(bytes);
  }

  /** How many records there are. */
  async count(): Promise<number> {
    let count = 0;
    for (let next: string | null = ""; next !== null;) {
      const answer = await fetch(`${this.url}/api/records?limit=200${next && `&cursor=${next}`}`);
      const page = (await answer.json()) as Page<FileRecord>;
      count += page.items.length;
      next = page.next;
    }
    return count;
  }

  /** The digest of the bytes that the service gives back. */
  async digest(record: FileRecord): Promise<string> {
    const answer = await fetch(`${this.url}/api/records/${record.id}/assets/original`);
    const hash = createHash("sha256");
    if (answer.body) for await (const piece of answer.body) hash.update(piece as Uint8Array);
    return hash.digest("hex");
  }
}
