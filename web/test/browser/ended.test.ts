import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Page } from "playwright-core";
import { chooser, networkOf } from "./browser";
import { makeWorld } from "./world";

const settings: Record<string, string> = {};
let scanner: Server;

beforeAll(async () => {
  scanner = createServer((request, answer) => {
    let body = "";
    request.on("data", (piece: Buffer) => (body += piece.toString()));
    request.on("end", () => answer.end(body.includes("virus.bin") ? '{"refuse": "it has a virus"}' : "{}"));
  });
  await new Promise<void>((listening) => scanner.listen(0, "127.0.0.1", listening));
  const { port } = scanner.address() as AddressInfo;
  const secrets = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"];
  const url = `http://127.0.0.1:${port}/`;
  settings["HAULIER_HOOKS"] = JSON.stringify([{ on: "finish", url, secrets, private: true, fail: "closed" }]);
});

const world = makeWorld(settings);

afterAll(() => void scanner.close());

/** How often the page began an upload. */
function begins(page: Page): () => number {
  let count = 0;
  page.on("request", (request) => {
    const small = request.method() === "PUT" && request.url().includes("/api/files/");
    if (small || (request.method() === "POST" && request.url().endsWith("/api/uploads"))) count += 1;
  });
  return () => count;
}

test("a refusal whose answer was lost is shown with its reason, and the file is sent once", async () => {
  const page = await world.page();
  const begun = begins(page);
  await page.route(
    "**/finish",
    async (route) => {
      await route.fetch();
      await route.abort();
    },
    { times: 1 },
  );
  await chooser(page).setInputFiles(world.file("virus.bin", new Uint8Array(2_000_000)));
  await page
    .getByRole("alert")
    .getByText("virus.bin: The service did not take this file: the upload is refused: it has a virus.")
    .waitFor();
  expect(begun()).toBe(1);
  const named = await world.service.records({ name: "virus" });
  const its = named.filter(({ filename }) => filename === "virus.bin");
  expect(its.map(({ status }) => status)).toEqual(["failed"]);
  // Another file lets Uppy try the failed ones again; the reason is told again, and no byte sent again.
  await page.getByRole("button", { name: "Add more files" }).click();
  await chooser(page).setInputFiles(world.file("good.bin", "good"));
  await page.getByText("1 of 2 files sent").waitFor();
  await page.getByRole("alert").getByText("it has a virus").waitFor();
  expect(begun()).toBe(2);
});

test("a small file that is refused is shown with its reason, and sent once", async () => {
  const page = await world.page();
  const begun = begins(page);
  await chooser(page).setInputFiles(world.file("small-virus.bin", "bad"));
  const reason = page.getByRole("alert").getByText(/small-virus.bin: .* it has a virus/);
  await reason.waitFor();
  await page.getByRole("button", { name: "Add more files" }).click();
  await chooser(page).setInputFiles(world.file("next.bin", "good"));
  await page.getByText("1 of 2 files sent").waitFor();
  await reason.waitFor();
  expect(begun()).toBe(2);
  expect(await world.service.records({ name: "small-virus" })).toHaveLength(1);
});

test("an upload that an operator ended stays ended, and begins anew when it is added again", async () => {
  const page = await world.page();
  const begun = begins(page);
  const network = await networkOf(page);
  await network.slow(500_000);
  const path = world.file("ended.bin", new Uint8Array(4_000_000));
  const answered = page.waitForResponse((answer) => answer.url().endsWith("/api/uploads"));
  await chooser(page).setInputFiles(path);
  const { id } = (await (await answered).json()) as { id: string };
  const ended = await fetch(`${world.service.url}/api/uploads/${id}`, { method: "DELETE" });
  expect(ended.status).toBe(204);
  await network.on();
  await page.getByRole("alert").getByText("This upload was ended from somewhere else.").waitFor();
  expect(begun()).toBe(1);
  await page.getByRole("button", { name: /^Remove/ }).click();
  await chooser(page).setInputFiles(path);
  await page.getByText("1 of 1 file sent").waitFor();
  expect(begun()).toBe(2);
});

test("an upload whose time is over begins anew by itself", async () => {
  const page = await world.page();
  const begun = begins(page);
  let gone = true;
  await page.route("**/chunks/0", async (route) => {
    const body = { type: "x/errors/upload-gone", upload_status: "expired", error: null };
    if (gone) await route.fulfill({ status: 410, json: body });
    else await route.continue();
    gone = false;
  });
  await chooser(page).setInputFiles(world.file("expired.bin", new Uint8Array(2_000_000)));
  await page.getByText("1 of 1 file sent").waitFor();
  expect(begun()).toBe(2);
});
