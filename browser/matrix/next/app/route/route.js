import { play } from '../play.js';

export const dynamic = 'force-dynamic';

export async function GET() {
  return new Response(await play());
}
