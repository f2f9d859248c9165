import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { findings, PICTURES } from "./browser";
import { Service } from "./service";
import { makeWorld } from "./world";

const home = mkdtempSync(join(tmpdir(), "haulier-home-"));
const world = makeWorld({ HAULIER_HOME: home });

afterAll(() => rmSync(home, { recursive: true, force: true }));

test("what the command line queues is shown, paused, gone on with, and shown when it has arrived", async () => {
  const { service } = world;
  const there = await Service.start();
  service.command("remote", "add", "office", "--type", "haulier", "--url", there.url);
  await there.kill();
  const page = await world.page({ colorScheme: "dark" }, "#transfers");
  await page.getByText("Nothing is being sent.").waitFor();
  service.command("push", world.file("plan.txt", "the plan"), "--to", "office:in/plan.txt", "--no-wait");
  const row = page.locator(".transfers li").filter({ hasText: "office:in/plan.txt" });
  await row.getByText(/waiting|trying again|starting/).waitFor();
  await row.getByRole("button", { name: "Pause" }).click();
  await row.getByText("paused", { exact: true }).waitFor();
  expect(await findings(page)).toEqual([]);
  await page.screenshot({ path: `${PICTURES}/transfers-desktop-dark.png` });
  await page.setViewportSize({ width: 390, height: 780 });
  await page.emulateMedia({ colorScheme: "light" });
  await page.screenshot({ path: `${PICTURES}/transfers-phone-light.png` });
  expect(await findings(page)).toEqual([]);
  await there.run();
  await row.getByRole("button", { name: "Resume" }).click();
  await row.getByText("succeeded").waitFor();
  expect((await there.records()).map(({ filename, status }) => [filename, status])).toEqual([
    ["plan.txt", "completed"],
  ]);
  await there.stop();
});
