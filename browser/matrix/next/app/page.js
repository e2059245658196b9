'use client';

import { useEffect, useState } from 'react';
import { play } from './play.js';

export default function Page() {
  const [said, say] = useState('loading');
  useEffect(() => { play().then(say); }, []);
  return <title>{said}</title>;
}
