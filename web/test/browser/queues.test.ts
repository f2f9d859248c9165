import type { ChildProcess } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type { Route } from "playwright-core";
import { afterAll, expect, test } from "vitest";
import { findings } from "./browser";
import { makeWorld } from "./world";

const nodes: ChildProcess[] = [];
const home = mkdtempSync(join(tmpdir(), "haulier-home-"));
const world = makeWorld({ HAULIER_HOME: home, HAULIER_SOULSEEK_PASSWORD: "secret" });

afterAll(() => {
  for (const node of nodes) node.kill();
  rmSync(home, { recursive: true, force: true });
});

test("of a long queue all that waits is shown, the next ones too, and stays", async () => {
  const { service } = world;
  service.command("remote", "add", "far", "--type", "haulier", "--url", "http://127.0.0.1:9");
  const names = Array.from({ length: 230 }, (_, index) => world.file(`long/${index}.txt`, String(index)));
  service.command("push", ...names, "--to", "far:in/", "--no-wait");
  const page = await world.page({}, "#transfers");
  const listed = page.locator(".transfers li").filter({ hasText: "far:in/" });
  await expect.poll(() => listed.count()).toBe(230);
  const counts = new Set<number>();
  for (let looks = 0; looks < 2; looks += 1) {
    await page.waitForResponse((answer) => answer.url().includes("live=false"));
    await page.evaluate(() => new Promise(requestAnimationFrame));
    counts.add(await listed.count());
  }
  expect([...counts]).toEqual([230]);
  const ids = await listed.evaluateAll((all) => all.map((row) => row.getAttribute("data-id") ?? ""));
  for (const id of ids) await fetch(`${service.url}/api/transfers/${id}/cancel`, { method: "POST" });
});

test("what a node beside the service sends is shown with its place, and what one may want of it", async () => {
  const { service } = world;
  const folder = join(service.folder, "node");
  const run = async (...options: string[]): Promise<string> => {
    const [child, line] = await service.begin("soulseek", ...options);
    nodes.push(child);
    return /ready on (\S+)/.exec(line)?.[1] ?? "";
  };
  const server = await run("rendezvous", "--port", "0", "--data-dir", join(folder, "server"));
  const share = async (user: string, dir: string, ...more: string[]): Promise<void> => {
    const where = ["--server", server, "--listen", "127.0.0.1:0", "--data-dir", dir];
    await run(
      "share",
      `Films=${dirname(world.file("films/a.bin", new Uint8Array(3_000_000)))}`,
      "--user",
      user,
      ...where,
      ...more,
    );
  };
  world.file("films/b.bin", new Uint8Array(3_000_000));
  await share("ann", service.dataDir, "--slots", "1", "--rate", "30000");
  const bob = join(folder, "bob");
  await share("bob", bob);
  const { url } = JSON.parse(readFileSync(join(bob, "control.json"), "utf8")) as { url: string };
  const headers = { Authorization: `Bearer ${readFileSync(join(bob, "control.token"), "utf8").trim()}` };
  const page = await world.page({}, "#transfers");
  const row = (file: string) => page.locator(".transfers li").filter({ hasText: `Films\\${file} to bob` });
  for (const file of ["a.bin", "b.bin"]) {
    const body = JSON.stringify({ user: "ann", file: `Films\\${file}`, target: join(folder, file) });
    await fetch(`${url}/downloads`, { method: "POST", headers, body });
    await row(file).waitFor();
  }
  const offered = (file: string) => row(file).locator("button:not([hidden])").allTextContents();
  await row("a.bin").getByText("on its way").waitFor();
  expect(await offered("a.bin")).toEqual(["Cancel"]);
  await row("b.bin").getByText("place 1").waitFor();
  expect(await offered("b.bin")).toEqual(["To the front", "Cancel"]);
  // From now on the list is never answered: what moves is moved by events.
  const held: Route[] = [];
  let holding = true;
  await page.route("**/api/transfers?*", (route) => (holding ? void held.push(route) : route.continue()));
  const sent = await row("a.bin").locator(".numbers").textContent();
  await expect.poll(() => row("a.bin").locator(".numbers").textContent()).not.toBe(sent);
  const ids = await page
    .locator(".transfers li")
    .evaluateAll((all) =>
      all.filter((it) => it.textContent.includes("a.bin")).map((it) => it.getAttribute("data-id") ?? ""),
    );
  await fetch(`${service.url}/api/transfers/${ids[0] ?? ""}/cancel`, { method: "POST" });
  await row("a.bin").locator(".badge").getByText("cancelled").waitFor();
  await row("b.bin").getByText("on its way").waitFor();
  // Not by `unroute`: it may let go by itself what is held, and a route is let go only once.
  holding = false;
  for (const route of held) await route.continue();
  await row("b.bin").getByRole("button", { name: "Cancel" }).click();
  await row("b.bin").locator(".badge").getByText("cancelled").waitFor();
  expect(await findings(page)).toEqual([]);
});
