import { expect, test, vi } from "vitest";
import type { FileRecord } from "../../src/api";

vi.stubGlobal("document", { baseURI: "http://127.0.0.1:8000/" });
const { Rows } = await import("../../src/files/rows");

/** A service's list of records, the newest first, in pages; by status where one is asked for. */
function serve(records: { id: string; status: string }[]): void {
  vi.stubGlobal("fetch", (url: URL) => {
    const one = records.find(({ id }) => url.pathname === `/api/records/${id}`);
    if (one) return Promise.resolve(Response.json({ ...one, created_at: one.id, deleted_at: null }));
    if (url.pathname !== "/api/records") return Promise.resolve(new Response("{}", { status: 404 }));
    const [status, cursor] = [url.searchParams.get("status"), url.searchParams.get("cursor")];
    const fitting = records
      .filter((record) => status === null || record.status === status)
      .filter(({ id }) => cursor === null || id < cursor)
      .map((record) => ({ ...record, created_at: record.id, deleted_at: null }));
    const items = fitting.slice(0, Number(url.searchParams.get("limit")));
    const next = items.length < fitting.length ? items.at(-1)?.id : null;
    return Promise.resolve(Response.json({ items, next, left_out: 0 }));
  });
}

function records(count: number): FileRecord[] {
  return Array.from({ length: count }, (_, index) => ({
    id: String(count - index).padStart(4, "0"),
    status: "completed",
  })) as FileRecord[];
}

const ids = (all: readonly FileRecord[]): string[] => all.map(({ id }) => id);

test("a record that no longer fits the filters leaves the list, and whoever reads far below stays there", async () => {
  const all = records(450);
  serve(all);
  const rows = new Rows(() => undefined);
  await rows.reload({ status: "completed" });
  await rows.more();
  expect(rows.items.length).toBe(400);
  const [first, , third] = all;
  if (first) first.status = "failed";
  await rows.refresh([first?.id ?? ""]);
  expect(ids(rows.items)).toEqual(ids(all.slice(1, 401)));
  expect(rows.hasMore).toBe(true);
  if (third) third.status = "failed";
  if (first) first.status = "completed";
  await rows.refresh(ids([first, third].filter((record) => record !== undefined)));
  expect(ids(rows.items)).toEqual(ids(all.filter((record) => record !== third).slice(0, 400)));
});

test("of many changed records below the first page none vanishes", async () => {
  const all = records(600);
  serve(all);
  const rows = new Rows(() => undefined);
  await rows.reload({});
  await rows.more();
  await rows.more();
  const changed = all.slice(250, 550);
  for (const record of changed) record.status = "failed";
  await rows.refresh(ids(changed));
  expect(rows.items.map(({ id, status }) => [id, status])).toEqual(all.map(({ id, status }) => [id, status]));
});

test("a changed record below all that is here waits for its page", async () => {
  const all = records(300);
  serve(all);
  const rows = new Rows(() => undefined);
  await rows.reload({});
  await rows.refresh(["0050"]);
  expect(ids(rows.items)).toEqual(ids(all.slice(0, 200)));
  await rows.more();
  expect(ids(rows.items)).toEqual(ids(all));
});

test("a list that is read anew while its next page comes asks for the next page of the new one", async () => {
  const all = records(500);
  serve(all);
  const answers: (() => void)[] = [];
  const serving = fetch;
  const rows = new Rows(() => undefined);
  await rows.reload({});
  vi.stubGlobal("fetch", async (url: URL) => {
    if (url.searchParams.has("cursor")) await new Promise<void>((answer) => answers.push(answer));
    return serving(url);
  });
  const dropped = rows.more();
  await rows.reload({});
  const asked = rows.more();
  expect(answers.length).toBe(2);
  for (const answer of answers) answer();
  await Promise.all([dropped, asked]);
  expect(ids(rows.items)).toEqual(ids(all.slice(0, 400)));
});

test("whoever hears of a page that came can ask for the one after it", async () => {
  const all = records(500);
  serve(all);
  const rows = new Rows(() => void rows.more());
  await rows.reload({});
  await vi.waitUntil(() => !rows.hasMore);
  expect(ids(rows.items)).toEqual(ids(all));
});

test("a page that did not come can be asked for again", async () => {
  const all = records(300);
  serve(all);
  const serving = fetch;
  const rows = new Rows(() => undefined);
  await rows.reload({});
  vi.stubGlobal("fetch", () => Promise.reject(new TypeError("the network is away")));
  await expect(rows.more()).rejects.toThrow("away");
  vi.stubGlobal("fetch", serving);
  await rows.more();
  expect(ids(rows.items)).toEqual(ids(all));
});
